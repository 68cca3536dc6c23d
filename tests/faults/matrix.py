#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix: every fault that is promised something for, what is promised, and what shows it.

usage: matrix.py              says what is wrong with it; status 1 if something is
       matrix.py --markdown   its table, as it stands in docs/faults.md
       matrix.py --write      puts the table there
       matrix.py --commands [--at native|testbed] [F01,F02...]
                              command lines of the rows' own programs that run there (native)

What shows a row is "file:function": of a Python file a function, of a C file a test; a file alone
where the whole program is about it. Files have short names in FILES. A row that nothing shows
says why.
"""
import collections
import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
DOCUMENT = os.path.join(TOP, "docs", "faults.md")
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"

FILES = {
    "processes": "tests/faults/rows_processes.py", "links": "tests/faults/rows_links.py",
    "rows": "tests/faults/rows_pair.py", "resources": "tests/faults/rows_resources.py",
    "ill": "tests/faults/rows_hostile.py",
    "bed": "tests/faults/rows_testbed.py", "points": "tests/faults/points.py",
    "failovers": "tests/faults/failovers.py", "runs": "tests/faults/run",
    "pair": "tests/pairs/test_pair.py", "hostile": "tests/pairs/test_colod_hostile.py",
    "kill": "tests/pairs/test_kill.py", "handover": "tests/pairs/test_handover.py",
    "ends": "tests/pairs/test_ends.py", "outputs": "tests/pairs/test_outputs.py",
    "command": "tests/pairs/test_colo_command.py",
    "heartbeat": "tests/nets/test_heartbeat.py", "compare": "tests/nets/test_netcompare.py",
    "crowd": "tests/nets/test_random.py", "cycles": "tests/system/test_cycles.py",
    "working": "tests/system/test_replicate.py", "refusals": "tests/system/test_refusals.py",
    "misuse": "tests/micro/test_micro_devices.c", "message": "tests/micro/test_micro_hostile.c",
    "streams": "tests/micro/test_micro_streams.c", "unlike": "tests/micro/test_micro_unlike.c",
    "cut": "tests/micro/test_micro_cut.c", "outs": "tests/micro/test_micro_outputs.c",
    "replicate": "tests/micro/test_micro_replicate.c",
    "node": "tests/unit/test_colo_node.c", "startup": "tests/unit/test_colo_startup.c",
    "record": "tests/unit/test_colo_record.c", "etcd": "tests/unit/test_colo_arbiter_etcd.c",
    "rubbish": "tests/unit/test_colo_arbiter_rubbish.c", "hooks": "tests/unit/test_colo_hooks.c",
    "peer": "tests/unit/test_colo_peer.c", "diff": "tests/unit/test_colo_pair_diff.c",
    "hello": "tests/unit/test_checkpoint_hello.c", "channel": "tests/unit/test_base_channel.c",
    "detector": "tests/unit/test_heartbeat_detector.c",
    "datagram": "tests/unit/test_heartbeat_message.c",
    "epochs": "tests/unit/test_netcompare_epochs.c",
    "streamed": "tests/unit/test_netcompare_tcp.c",
    "random": "tests/unit/test_netcompare_random.c",
    "twin": "tests/unit/test_checkpoint_disk_twin.c", "events": "tests/unit/test_colo_events.c",
}

# `shown`: names as above, separated by spaces. `reason`: why nothing shows it, or not all.
Row = collections.namedtuple("Row", "id fault promise shown reason", defaults=("",))

ROWS = [
    # Programs and hosts.
    Row("F01", "The program that runs the guest (colo-vm) is killed on the host that serves",
        "The other host goes on at once. Open connections live, and no answer that a client has "
        "is taken back.",
        "pair:colo_vm_is_killed kill:primaries_die_at_random_instants "
        "node:a_killed_colo_vm_is_followed_within_100_ms"),
    Row("F02", "It is killed on the standby",
        "The guest goes on where it is, after a wait of milliseconds; the standby is filled anew "
        "by itself.",
        "pair:colo_vm_is_killed kill:secondaries_die_at_labelled_steps "
        "bed:the_same_pair_as_two_hosts_by_ssh "
        "node:a_lost_standby_leaves_its_primary_speaking"),
    Row("F03", "The host that serves stands still for a while, and goes on",
        "For less than `heartbeat/timeout`: nothing happens. For longer: the other host goes on; "
        "the one that stood still finds that out before anything of its guest is heard, and joins "
        "again with its disk made the same.",
        "processes:a_short_stop_is_nothing processes:a_primary_stops_and_goes_on "
        "pair:a_primary_freezes pair:a_primarys_guest_freezes "
        "node:a_host_that_stood_still_finds_itself_overtaken "
        "compare:one_that_stood_still_holds_everything"),
    Row("F04", "The standby stands still for a while, and goes on",
        "The guest goes on where it is. The standby is not promoted by the silence that it finds; "
        "it is filled anew.",
        "processes:a_standby_stops_and_goes_on_cut_off pair:a_standby_freezes "
        "heartbeat:a_daemon_that_was_stopped_raises_no_alarm"),
    Row("F05", "A host stands still between being granted the guest and going on with it",
        "Never two that are heard: whoever was overtaken meanwhile is not heard.",
        "points "
        "node:a_host_that_stood_still_finds_itself_overtaken "
        "node:whatever_happens_nobody_lets_out_what_contradicts_what_was_seen"),
    Row("F06", "A host loses its power, without a last word",
        "As above, noticed by silence: after `heartbeat/timeout` the other one goes on. When the "
        "host is back the pair is protected again by itself.",
        "bed:a_standby_with_another_time_goes_on "
        "pair:a_host_loses_power cycles:hosts_die_in_turn "
        "node:a_host_that_loses_power_is_followed_by_the_other_and_comes_back"),
    Row("F07", "Both hosts lose their power, and come back in any order, or only one does",
        "The guest is started from the newest copy, and from no other: a host whose copy may be "
        "older waits and names the other one. `colo promote --force` is the operator's word. "
        "(Where the only one that had run was promoted a moment before and had not told "
        "`durable` yet, somebody has to decide.)",
        "pair:both_hosts_lose_power_at_once pair:a_stale_copy_is_not_started "
        "processes:both_lose_power_after_a_failover pair:it_starts_cold_in_any_order "
        "startup:no_combination_starts_what_may_be_older_or_twice "
        "node:both_without_power_start_with_what_was_primary"),
    Row("F08", "The guest itself panics or hangs",
        "It does so on both hosts, and no failover helps: nobody takes over. A panic is an event, "
        "and answered as `vm/on-panic` says. That a guest hangs is not noticed.",
        "processes:a_guest_that_panics_is_not_followed "
        "processes:a_guest_that_hangs_is_not_followed ends:a_guest_that_panics "
        "pair:the_guest_powers_itself_off"),
    # Links.
    Row("F09", "Only the replication link is lost",
        "The guest goes on where it is; the other host waits, and is filled anew when the link is "
        "back.",
        "pair:the_replication_link_is_lost pair:one_connection_of_the_replication_link_is_lost "
        "node:a_cut_replication_link_leaves_the_primary_in_its_place "
        "cut:a_link_cut_after_any_message_harms_no_running_pair"),
    Row("F10", "Heartbeats are lost, on one path or on all, and the replication link is not",
        "Nothing but an event and a line in the status.",
        "links:all_heartbeats_are_lost pair:one_way_of_several_is_lost "
        "heartbeat:one_path_is_enough_and_none_is_a_loss "
        "node:one_lost_way_of_heartbeats_is_no_reason_to_do_anything"),
    Row("F11", "All links between the hosts are lost, and both reach the arbiter",
        "One of them goes on, the one that the arbiter grants it to; the other one's guest is "
        "ended without having been heard.",
        "pair:all_links_are_lost node:two_halves_never_both_speak_and_one_does_if_the_arbiter_is_"
        "there"),
    Row("F12", "The same, and only the standby reaches the arbiter",
        "The standby goes on; what the primary's guest says is held until it is ended.",
        "pair:all_links_are_lost node:a_secondary_that_alone_sees_the_arbiter_goes_on"),
    Row("F13", "The same, and nobody reaches the arbiter",
        "Nobody is heard, and both say why. When the links are back the two agree without the "
        "arbiter, and the guest goes on with its memory and connections.",
        "pair:all_links_are_lost "
        "node:without_the_arbiter_two_halves_are_silent_until_they_meet_again"),
    Row("F14", "A link loses what goes one way only",
        "As if it was lost both ways; nobody changes places back and forth.",
        "pair:all_links_are_lost_one_way pair:the_replication_link_is_lost "
        "pair:one_way_of_several_is_lost node:a_cut_of_one_way_only_leaves_one_speaker "
        "heartbeat:one_way_is_told_apart_from_both"),
    Row("F15", "The host that serves is cut from its clients, and not from the other host",
        "It can be seen (a heartbeat path over that network is down, the arbiter may be lost), and "
        "`colo switchover` moves the guest to the other host with all its connections. "
        "**Not promised:** that this is done by itself; a hook on `path-lost` can do it.",
        "links:a_primary_is_cut_from_its_clients links:a_hook_moves_the_guest_to_its_clients"),
    Row("F16", "Some clients do not reach the guest, others do",
        "Nothing is done: the pair cannot know who is right. Their connections go on when they "
        "reach it again.",
        "links:some_clients_are_cut_off"),
    Row("F17", "Links lose, delay, reorder or double what they carry",
        "Up to a fifth of heartbeats lost, and delays below the timeouts, are no reason for a "
        "failover. What is too bad for checkpoints costs protection first, until it is better; "
        "the guest goes on.",
        "bed:bad_links_within_the_envelope bed:a_bad_link_of_clients "
        "bed:a_replication_link_beyond_the_envelope "
        "links:frames_are_lost detector:a_fifth_that_is_lost_is_measured_and_no_loss_of_the_peer "
        "detector:those_that_were_overtaken_are_not_lost "
        "detector:jitter_follows_the_delay_of_the_network"),
    Row("F18", "A link changes what it carries",
        "It is noticed, on every channel, and nothing of it is believed: the connection is made "
        "anew, at worst the standby is filled anew.",
        "bed:corrupted_frames "
        "links:frames_are_changed channel:a_record_altered_on_its_way_is_refused "
        "datagram:every_changed_bit_is_refused"),
    Row("F19", "The replication link is far too slow",
        "What waits is bounded. The guest waits for checkpoints and at worst goes on unprotected; "
        "when the link is better it is protected again.",
        "bed:a_squeezed_link "
        "links:the_link_is_squeezed"),
    Row("F20", "Links come and go",
        "The guest stays where it is, or moves no more often than all links were lost; the pair "
        "ends up protected.",
        "links:links_flap detector:flapping_is_counted"),
    # What hosts lack.
    Row("F21", "A disk or a directory of a host is full",
        "The guest's disk on the host that serves: the guest moves to the other host, whose disk "
        "takes it; with both full it gets the error. The standby's: the pair goes on unprotected. "
        "State directory: roles do not change any more, and the status says so. Logs: nothing.",
        "resources:both_disks_are_full resources:a_state_folder_is_full "
        "resources:a_log_folder_is_full "
        "record:a_full_disk_leaves_the_one_before twin:a_merge_that_fails_is_not_called_durable "
        "events:a_file_that_cannot_be_written_costs_nothing_else"),
    Row("F22", "A disk fails",
        "Of the host that serves: the guest moves to the other one, and does not see the error. Of "
        "the standby: the guest goes on unprotected. A flush that failed is never called done.",
        "resources:a_primarys_disk_fails "
        "resources:a_primarys_disk_fails_and_nobody_hands_over "
        "resources:a_standbys_disk_fails resources:a_flush_that_failed_is_never_tried_again "
        "bed:a_primarys_disk_that_fails bed:a_standbys_disk_that_fails "
        "twin:a_disk_that_fails_is_reported_and_reads_stay_right "
        "twin:a_merge_that_fails_is_not_called_durable "
        "twin:a_flush_that_fails_is_not_called_durable"),
    Row("F23", "A disk is slow, or hangs",
        "No failover: the guest waits for its own disk as it would without colo. What the standby "
        "keeps in memory for its disk is bounded: it asks for checkpoints, and in the end writes "
        "wait. **Not promised:** that a disk that hangs for good is left by itself; "
        "`colo switchover`, or ending that colo-vm, does.",
        "resources:disks_are_slow resources:a_disk_hangs_for_a_while bed:a_disk_that_is_slow "
        "bed:a_disk_that_hangs twin:too_much_asks_for_a_checkpoint "
        "twin:over_the_bound_the_guests_writes_wait "
        "events:a_disk_that_hangs_delays_nobody"),
    Row("F24", "A loss of power tears a write or loses what was not flushed; a generation file is "
        "damaged",
        "What the guest was told is flushed is there. A damaged generation file is never believed: "
        "colod refuses to start and says so.",
        "resources:power_is_lost_with_writes_in_the_disks_caches "
        "resources:a_generation_file_is_damaged "
        "record:every_byte_changed_is_refused "
        "record:a_writer_killed_at_any_time_leaves_a_whole_file "
        "record:a_file_cut_short_anywhere_or_longer_is_refused "
        "record:a_full_disk_leaves_the_one_before"),
    Row("F25", "A host's clock is wrong, steps, or drifts",
        "No failover, nobody is locked out, and the guest's clocks do not go back: everything "
        "counts by clocks that nobody sets.",
        "bed:a_clock_is_stepped bed:a_standby_with_another_time_goes_on "
        "detector:stepped_clocks_change_the_offset_and_no_judgement "
        "detector:a_peer_whose_clock_stood_still_is_heard_when_it_hears_us "
        "ends:clocks_of_two_hosts"),
    Row("F26", "A host has no memory left, and its kernel kills a program; or it is frozen as a "
        "whole",
        "As if that program had been killed, or the host had stood still. Heartbeats go on where "
        "memory is short: their daemon's is locked.",
        "resources:a_program_finds_no_memory resources:a_host_is_frozen bed:out_of_memory "
        "bed:memory_is_short bed:a_program_is_frozen_by_its_group "
        "pair:colo_netcompare_is_killed pair:colod_is_killed pair:colo_heartbeat_is_killed "
        "heartbeat:secrets_and_rights_are_where_they_belong"),
    Row("F27", "A host has little of its processors",
        "A stall shorter than the timeout is no reason for a failover, and a daemon that did not "
        "run itself does not take its peer for dead. For longer it is as if the host stood still.",
        "resources:a_host_gets_little_of_its_processors bed:processors_are_hogged "
        "bed:a_program_that_goes_first "
        "detector:a_daemon_that_was_stopped_gives_a_silent_peer_a_timeout_again "
        "detector:a_daemon_that_is_starved_for_good_finds_a_dead_peer ends:no_false_loss"),
    Row("F28", "Programs get no more descriptors, threads or buffers",
        "What needs one is refused and tried again; the guest goes on.",
        "resources:programs_may_open_no_files resources:programs_may_start_no_threads "
        "compare:losses_on_the_way_are_divergences compare:a_guest_cannot_fill_the_host"),
    # Those who mean ill.
    Row("F29", "Somebody who has the pair's key says nonsense",
        "He is hung up on and the reason is logged. Nothing that the standby holds changes, "
        "nobody is promoted.",
        "rows:who_has_the_key_talks_nonsense message:one_wrong_message_changes_nothing "
        "streams:wrong_input_is_refused streams:wrong_disk_writes_are_refused "
        "hello:a_hello_that_makes_no_sense_is_refused_and_its_sender_told "
        "channel:a_message_against_the_rules_ends_the_channel "
        "peer:who_talks_nonsense_is_hung_up_on"),
    Row("F30", "Malformed heartbeats", "They are counted in the status, and nothing else.",
        "hostile:heartbeats_of_others datagram:every_other_length_is_refused"),
    Row("F31", "Heartbeats that were recorded: played again, reflected, of another time or pair",
        "They are counted as what they are. They keep nobody alive that is dead, and nobody out.",
        "heartbeat:what_was_recorded_changes_nothing hostile:heartbeats_of_others "
        "datagram:what_was_recorded_before_we_started_is_refused "
        "datagram:a_session_that_was_replaced_never_comes_back "
        "datagram:our_own_come_back_as_reflected"),
    Row("F32", "Forged heartbeats, and a colod with another key",
        "Whoever has not the key is not heard, whatever he says.",
        "hostile:heartbeats_of_others hostile:another_key heartbeat:another_key_is_not_heard "
        "channel:a_peer_with_another_key_is_refused_on_both_sides"),
    Row("F33", "A flood of datagrams on the heartbeats' port",
        "The peer is still heard, and it costs a bounded share of a processor: the kernel drops "
        "what cannot be the peer's.",
        "ill:heartbeat_ports_are_flooded "
        "heartbeat:a_flood_keeps_nobody_out hostile:strangers_on_the_ports"),
    Row("F34", "A guest breaks the rules of its devices",
        "That device is stopped until the guest resets it. The host and the other node are "
        "unharmed.",
        "ill:a_guest_misuses_its_devices "
        "misuse:a_hostile_disk_driver_stops_only_its_disk "
        "misuse:a_hostile_network_driver_stops_only_its_card "
        "misuse:a_hostile_console_driver_stops_only_its_console "
        "misuse:a_hostile_entropy_driver_stops_only_its_device refusals:misuse_in_a_host",
        "Not everything: colo-vm has no seccomp filter yet."),
    Row("F35", "A guest does something else on each host, or changes all of its memory, all the "
        "time",
        "Its answers wait for checkpoints, which are bounded in number and in size: it is slower, "
        "and never wrong. Other pairs do not notice.",
        "ill:a_guest_asks_for_much "
        "rows:a_guest_that_never_does_the_same_twice "
        "replicate:a_secondary_whose_guest_goes_astray_asks_for_a_checkpoint "
        "replicate:a_burst_of_writes_is_cut_before_the_rate_of_them_is_known "
        "epochs:all_memory_is_bounded"),
    Row("F36", "A client floods the guest: connections without end, fragments, odd segments, slow "
        "readers",
        "What the comparator keeps is bounded; at the bound it asks for checkpoints. Other "
        "connections go on.",
        "ill:clients_mean_harm "
        "crowd:a_client_sees_only_what_both_said epochs:all_memory_is_bounded "
        "epochs:too_many_held_packets_ask_and_stay epochs:idle_connections_are_forgotten "
        "compare:a_guest_cannot_fill_the_host"),
    # Helpers, and two at once.
    Row("F37", "colo-netcompare is killed, or hangs",
        "Nothing goes out without it. Killed it is started again at once, hanging within ten "
        "seconds; clients send again what was lost with it, and their connections live.",
        "pair:colo_netcompare_is_killed rows:a_comparator_hangs "
        "compare:a_comparator_that_dies_lets_nothing_out outputs:killed_and_started_again"),
    Row("F38", "colo-heartbeat, colod, a client of a control socket, the arbiter or a hook is "
        "killed or hangs",
        "The guest does not notice. colo-heartbeat is started again, hanging within ten seconds. "
        "Hooks are ended with what they forked when their time is up. The status is answered "
        "whatever hangs. While the colod of the primary is away the guest does not go on alone, "
        "while the standby's is away it is not promoted.",
        "pair:colo_heartbeat_is_killed rows:a_heartbeat_daemon_hangs "
        "rows:a_primary_dies_while_the_standbys_heartbeat_hangs pair:colod_is_killed "
        "pair:a_primary_dies_while_the_standbys_colod_is_dead pair:status_is_answered_at_once "
        "rows:a_hook_hangs_and_forks hooks:what_it_forked_is_killed_with_it "
        "hostile:clients_of_the_control_socket ends:status_answers_whatever_hangs"),
    Row("F39", "A program or host dies, stands still or is cut off at any step of a checkpoint, a "
        "promotion, a hand-over, a first sync",
        "What goes on is the guest as of one checkpoint or the next, never a mixture. What is "
        "half filled is never promoted.",
        "points "
        "kill:primaries_die_at_labelled_steps kill:secondaries_die_at_labelled_steps "
        "handover:primaries_die_in_it handover:standbys_die_in_it "
        "replicate:nothing_is_promoted_before_the_first_commit "
        "cut:a_link_cut_after_any_message_leaves_a_resting_secondary_exact"),
    Row("F40", "Two faults at once: the standby is being filled, frozen, or without arbiter, and "
        "the primary dies",
        "Rather nobody goes on than somebody with an old copy, or two. When what is missing is "
        "back, so is the guest.",
        "rows:a_primary_dies_while_its_standby_is_filled "
        "rows:the_arbiter_dies_and_then_the_primary "
        "rows:a_comparator_dies_while_the_link_is_cut "
        "rows:a_primary_dies_while_its_standby_is_frozen runs "
        "node:whatever_happens_nobody_lets_out_what_contradicts_what_was_seen"),
    Row("F41", "One failover after the other",
        "The same connection and the same file through all of them; no program uses more than "
        "before.",
        "failovers "
        "cycles:hosts_die_in_turn handover:back_and_forth"),
    # What people do.
    Row("F42", "Planned switch-overs of a busy guest",
        "No connection is lost, no answer is wrong; the guest is silent for a fraction of a "
        "second.",
        "rows:switch_overs_under_load pair:an_operator_switches_over handover:back_and_forth "
        "pair:a_primary_stands_down"),
    Row("F43", "The two hosts have different versions of colo",
        "They are a pair, or they are not and say why; what is not understood is never guessed. "
        "The guest goes on where it is.",
        "rows:two_versions_do_not_make_a_pair unlike:a_peer_of_another_version_is_told_so "
        "hello:another_version_is_named_whatever_its_hello_looks_like"),
    Row("F44", "The two pair files differ, or disks, processors or keys do",
        "The pair is not formed, and what differs is shown.",
        "rows:no_kind_of_difference_makes_a_pair pair:pair_files_that_differ_are_shown "
        "hostile:another_key diff:every_row_can_differ "
        "unlike:machines_that_differ_are_refused_by_what_differs "
        "hello:a_processor_that_lacks_features_is_refused_by_their_names"),
    Row("F45", "An operator errs: promotes both, starts an old copy or a backup, clones a host",
        "Refused, with what to do instead, as long as the other node or the arbiter can be asked. "
        "A state directory that was copied is refused by the number of the host's hardware. "
        "**Not promised:** that a copy on hardware without a number, with the machine id copied "
        "too, or a backup of both this and the arbiter's records, is found out.",
        "rows:both_are_promoted_by_hand rows:an_old_backup_is_started "
        "rows:a_third_host_has_a_copy_of_the_file pair:a_stale_copy_is_not_started "
        "startup:two_that_hear_each_other_never_both_start"),
    Row("F46", "The arbiter is started again, has lost its records, is slow, talks rubbish; there "
        "are two by mistake",
        "It never grants the same generation twice. One that has forgotten grants nothing until "
        "the pair has told it anew or an operator has decided. Of two arbiters one grants nothing "
        "that counts.",
        "rows:the_arbiter_is_started_again rows:the_arbiter_forgets rows:the_arbiter_is_slow "
        "rows:there_are_two_arbiters hostile:an_arbiter_of_rubbish "
        "etcd:a_server_started_again_keeps_or_loses_the_record "
        "etcd:one_of_two_that_claim_at_once_wins "
        "node:an_arbiter_that_forgot_is_told_anew_by_an_operator "
        "rubbish:every_kind_of_rubbish_is_unreachable_with_a_reason"),
    Row("F47", "A guest whose doing depends on chance: TLS, random numbers, threads that race",
        "Correct, at the price of more checkpoints.",
        "rows:a_guest_that_never_does_the_same_twice random:guests_at_random_agree_with_the_"
        "reference working:replicated"),
]

LEVELS = (("tests/unit/", "unit"), ("tests/system/", "testbed"), ("tests/testbed/", "testbed"),
          ("tests/faults/rows_testbed", "testbed"), ("tests/", "native"))


def places(row):
    """What shows a row: (path of a file, function or None) each."""
    found = []
    for name in row.shown.split():
        short, _, function = name.partition(":")
        found.append((FILES.get(short, short), function or None))
    return found


def level(path):
    return next(name for begin, name in LEVELS if path.startswith(begin))


def functions_of(path):
    """Of a Python file its functions, of a C file its tests."""
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".c"):
        return set(re.findall(r"^static void (\w+)\(void \*\*", text, re.M))
    return set(re.findall(r"^def (\w+)\(", text, re.M))


def tests_of(path):
    """What a file of rows runs: the names in its TESTS."""
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        listed = re.search(r"^TESTS = \[(.*?)\]", file.read(), re.M | re.S)
    return re.findall(r"\w+", listed[1]) if listed else []


def makefile():
    with open(os.path.join(TOP, "Makefile"), encoding="utf-8") as file:
        return file.read()


def faults():
    """What is wrong with the matrix, a sentence each."""
    found = []
    ids = [row.id for row in ROWS]
    if ids != [f"F{number:02}" for number in range(1, 48)]:
        found.append(f"rows are to be F01 to F47, each once and in order, not {' '.join(ids)}")
    named = set()
    for row in ROWS:
        if not row.shown and not row.reason:
            found.append(f"{row.id}: nothing shows it, and no reason is given")
        for path, function in places(row):
            named.add((path, function))
            if not os.path.exists(os.path.join(TOP, path)):
                found.append(f"{row.id}: there is no {path}")
            elif function and function not in functions_of(path):
                found.append(f"{row.id}: {path} has no {function}")
    for path in sorted(glob.glob(os.path.join(HERE, "rows_*.py"))):
        path = os.path.relpath(path, TOP)
        listed = tests_of(path)
        if not listed:
            found.append(f"{path}: it has no TESTS")
        if level(path) != "native" and path not in makefile():  # those are run by `run --rows`
            found.append(f"{path}: no target of the Makefile runs it")
        for name in listed:
            if name not in functions_of(path):
                found.append(f"{path}: its TESTS name {name}, which is not there")
            if (path, name) not in named:
                found.append(f"{path}: no row of the matrix names {name}; add it to a row's "
                             "`shown` in matrix.py")
    if document() != replaced(document()):
        found.append("docs/faults.md has another table: tests/faults/matrix.py --write")
    return found


def markdown():
    lines = ["| | what happens | what is promised | shown |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        shown = collections.OrderedDict()
        for path, function in places(row):
            shown.setdefault((level(path), path), []).extend([function] if function else [])
        cell = "<br>".join(
            f"{where}: `{path}`" + (f" ({', '.join(names)})" if names else "")
            for (where, path), names in shown.items())
        if row.reason:
            cell += ("<br>" if cell else "") + row.reason
        lines.append(f"| {row.id} | {row.fault} | {row.promise} | {cell} |")
    return "\n".join(lines) + "\n"


def document():
    with open(DOCUMENT, encoding="utf-8") as file:
        return file.read()


def replaced(text):
    """The document with our table in it."""
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{DOCUMENT}: there is no place between {BEGIN} and {END}")
    return before + begin + "\n" + markdown() + "\n" + end + after


def commands(ids, where="native"):
    """What runs these rows' own functions there ("native", "testbed"): lists of words, from the
    project's directory."""
    chosen = collections.OrderedDict()
    for row in ROWS:
        for path, function in places(row) if row.id in ids else ():
            if function and path.startswith("tests/faults/rows_") and level(path) == where:
                names = chosen.setdefault(path, [])
                names.extend([function] if function not in names else [])
    return [[path, *names] for path, names in chosen.items()]


def main(words):
    if words == ["--markdown"]:
        print(markdown(), end="")
    elif words == ["--write"]:
        text = replaced(document())
        with open(DOCUMENT, "w", encoding="utf-8") as file:
            file.write(text)
    elif words[:1] == ["--commands"]:
        where, words = ("native", words[1:]) if words[1:2] != ["--at"] else (
            (words + [""])[2], words[3:])
        if where not in ("native", "testbed") or len(words) > 1:
            raise SystemExit(__doc__)
        ids = words[0].split(",") if words else [row.id for row in ROWS]
        for unknown in set(ids) - {row.id for row in ROWS}:
            raise SystemExit(f"matrix.py: there is no row {unknown}")
        for command in commands(ids, where):
            print(" ".join(command))
    elif words:
        raise SystemExit(__doc__)
    else:
        found = faults()
        for fault in found:
            print("not ok - " + fault)
        print(f"{len(ROWS)} rows, {len(found)} faults")
        return 1 if found else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
