# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair whose roles are changed by the test itself, over the programs' control sockets."""
import bed
import pair

OUTPUTS, COMPARE = "/run/outputs.sock", "/run/compare.sock"
MACHINE = ["--cpus", "1", "--memory", pair.MEMORY, "--cpu-model", "x86-64-v2",
           "--disk", "path=" + pair.DISK, "--net", f"tap={pair.TAP},mac={pair.MAC}",
           "--key", pair.KEY, "--outputs", OUTPUTS]


class ByHand:
    def __init__(self, nodes):
        self.nodes = nodes
        self.machines = {}
        self.comparators = {}
        self.primary = None

    def address(self, node):
        return f"10.90.2.{node.number}:7700"

    def node_up(self, node):
        pair.network_up(node)
        node.must("ip tuntap add dev \"$1\" mode tap vnet_hdr; ip link set \"$1\" master br0 up",
                  pair.TAP)
        program = node.popen("colo-netcompare", "--vm", OUTPUTS, "--queue", "5", "--tap",
                             pair.TAP, "--control", COMPARE, "--mode", "colo",
                             "--late-max", "5000", stdin=bed.subprocess.DEVNULL,
                             stdout=bed.subprocess.PIPE, stderr=bed.subprocess.STDOUT)
        self.comparators[node] = (program, bed.Stream(program.stdout))
        if self.primary:
            self.fill(node)

    def start(self):
        self.primary, other = self.nodes
        kernel = ["--kernel", "/guest/vmlinuz-cloud", "--initrd", "/guest/initrd-cloud.img",
                  "--append", pair.APPEND]
        self.machines[self.primary] = bed.Machine(self.primary, *kernel, *MACHINE).ready()
        self.machines[self.primary].watch()
        self.fill(other)

    def fill(self, node):
        self.machines[node] = bed.Machine(node, "--standby", self.address(node),
                                          *MACHINE).watch()
        vm = self.machines[self.primary]
        if not bed.eventually(lambda: vm.control.must("status")["replication"]["outputs"]["ready"]):
            raise RuntimeError("no comparator: " + self.last_words())
        vm.control.must("protect", to=self.address(node), mode="colo", age_ms=2000,
                        silence_ms=5000, connections=1)

    def brief(self):
        vm = self.machines[self.primary]
        return vm.control.must("status")["replication"]["state"]

    def wait_protected(self, seconds=pair.PROTECTED_S):
        return bed.eventually(lambda: self.brief() == "protected", seconds)

    def power_off(self, node):
        """A node's power failure, and what an arbiter's grant would lead to."""
        bed.testbed("kill", node.name)
        self.machines.pop(node).end()
        if node is not self.primary:
            return
        self.primary = next(n for n in self.nodes if n is not node)
        vm = self.machines[self.primary]
        if not vm.control.event("primary-lost", 60):
            raise RuntimeError("the standby does not notice: " + self.last_words())
        vm.control.must("promote")

    def stop(self):
        """Switches the guest off; the node with the newest disk."""
        vm = self.machines[self.primary]
        vm.control.must("powerdown")
        if vm.wait() != 0:
            raise RuntimeError("the guest does not switch itself off: " + self.last_words())
        return self.primary

    def last_words(self):
        return "\n".join(
            [f"{node.name}: colo-vm: {vm.last_words()[-3000:]}"
             for node, vm in self.machines.items()]
            + [f"{node.name}: colo-netcompare: {words.text[-1500:]}"
               for node, (_, words) in self.comparators.items()])


def make_pair(nodes):
    colod = bed.os.path.join(bed.BUILD, "colod")
    return pair.Pair(nodes) if bed.os.path.exists(colod) else ByHand(nodes)
