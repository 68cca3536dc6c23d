/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boot.S - the micro-guest's file header, its way into ring 3, and all its ring-0 code.
 *
 * The file has the shape of a Linux bzImage, so any loader of the Linux 64-bit boot
 * protocol starts it: long mode, ring 0, low 4 GiB identity mapped, RSI = boot_params,
 * entry 0x200 bytes past the load address, which must be the preferred one (the header
 * says it cannot be relocated).
 *
 * Nearly everything runs in ring 3, because on a KVM without hardware virtualization
 * ("kvm-pvm") ring 3 runs natively and ring 0 at 1.5 million instructions a second in
 * KVM's emulator. What was found there, and is used because it is also valid on VMX and
 * SVM:
 *  - iretq works, to ring 3 and to ring 0, and so every way back is iretq;
 *  - SYSCALL arrives at LSTAR but still in ring 3; SYSENTER and `int n` arrive as
 *    faults. UD2 makes an honest #UD everywhere, so UD2 is our system call ("gate");
 *  - hardware IOPL stays 0 in ring 3, so `cli` and `sti` fault there and popfq cannot
 *    change IF: ring 3 always runs with interrupts on and must not need otherwise;
 *  - ports are opened to ring 3 by the I/O bitmap of the TSS instead.
 *
 * Each vCPU owns one 64 KiB block, aligned to its size (struct cpu in cpu.h): data, TSS
 * with I/O bitmap, ring-3 stack, ring-0 stack. Masking a stack pointer of either ring
 * finds it. Ring-0 code never nests deeper than one interrupt inside the idle gate.
 *
 * Interrupt stubs count and acknowledge, no more; whoever cares compares counters.
 */

#define LOAD_ADDRESS 0x1000000
#define AP_PAGE 0x8000		/* where the other vCPUs start, in real mode */

/* Offsets in struct cpu, checked in cpu.c. */
#define CPU_EVENTS 0
#define CPU_TRAP 8		/* vector, error, rip, rsp, cr2 */
#define CPU_IRQS 64
#define CPU_TSS 0x2000
#define CPU_USER_TOP 0xf000
#define CPU_TOP 0x10000
#define CPU_MASK -0x10000

#define TSS_RSP0 4
#define TSS_IOMAP 102
#define TSS_SIZE 104
#define IOMAP_SIZE 0x2000
#define TSS_LIMIT (TSS_SIZE + IOMAP_SIZE)

#define KERNEL_CS 0x10
#define KERNEL_DS 0x18
#define USER_DS 0x2b
#define USER_CS 0x33
#define FIRST_TSS 0x40

#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define LAPIC_EOI 0xfee000b0

#define GATE 0x47415400		/* + function, in eax */
#define GATE_IDLE (GATE + 0)
#define GATE_RDMSR (GATE + 1)
#define GATE_WRMSR (GATE + 2)
#define GATE_CPUID (GATE + 3)

#define UD_VECTOR 6
#define FIRST_IRQ 0x20
#define SPURIOUS 0xff

	/* ---- boot sector and setup header: the first 0x400 bytes of the file ---- */
	.section .header, "a"
header:
	.org 0x1f1
	.byte 1			/* setup_sects */
	.word 0			/* root_flags */
	.long _file_paragraphs	/* syssize */
	.word 0, 0xffff, 0	/* ram_size, vid_mode, root_dev */
	.word 0xaa55		/* boot_flag */
	.byte 0xeb, header_end - 0x202 - header	/* jump; its second byte says where we end */
	.ascii "HdrS"
	.word 0x020f		/* version 2.15 */
	.long 0			/* realmode_swtch */
	.word 0, 0		/* start_sys_seg, kernel_version */
	.byte 0xff, 0x01	/* type_of_loader, loadflags: LOADED_HIGH */
	.word 0			/* setup_move_size */
	.long LOAD_ADDRESS	/* code32_start */
	.long 0, 0		/* ramdisk_image, ramdisk_size */
	.long 0			/* bootsect_kludge */
	.word 0			/* heap_end_ptr */
	.byte 0, 0		/* ext_loader_ver, ext_loader_type */
	.long 0			/* cmd_line_ptr */
	.long 0x7fffffff	/* initrd_addr_max */
	.long 0x200000		/* kernel_alignment */
	.byte 0			/* relocatable_kernel */
	.byte 21		/* min_alignment */
	.word 1			/* xloadflags: XLF_KERNEL_64 */
	.long 2047		/* cmdline_size */
	.long 0			/* hardware_subarch */
	.quad 0			/* hardware_subarch_data */
	.long 0, 0		/* payload_offset, payload_length */
	.quad 0			/* setup_data */
	.quad LOAD_ADDRESS	/* pref_address */
	.long _image_size	/* init_size */
	.long 0			/* handover_offset */
	.long 0			/* kernel_info_offset */
header_end:
	/*
	 * Only for loaders that start a bzImage in real mode, as `qemu -kernel` does: ds
	 * is the segment we are at, the rest was put at 1 MiB and belongs at 16 MiB.
	 */
	.code16
	cli
	cld
	mov %cs, %ax
	sub $0x20, %ax		/* entered at 0x20:0 past our segment */
	mov %ax, %ds
	movzwl %ax, %esi
	shl $4, %esi		/* boot_params, flat */
	lea (qemu_gdt - header)(%esi), %eax
	mov %eax, qemu_gdt_pointer - header + 2
	lea (qemu_32 - header)(%esi), %eax
	mov %eax, qemu_jump - header
	lgdtl qemu_gdt_pointer - header
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl *(qemu_jump - header)
	.code32
qemu_32:
	mov $KERNEL_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %esi, %ebp
	mov $0x100000, %esi
	mov $LOAD_ADDRESS, %edi
	mov $_file_words, %ecx
	rep movsl
	mov %ebp, %esi
	mov $0x20, %eax
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmpl $0x20, $entry
	.balign 8
qemu_gdt:
	.quad 0, 0
	.quad 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
qemu_gdt_pointer:
	.word 39
	.long 0
qemu_jump:
	.long 0
	.word 0x10
	.org 0x400

	/* ---- from here on loaded at LOAD_ADDRESS ---- */
	.section .boot, "awx"
	.code64
base:
#define ABS(label) (LOAD_ADDRESS + (label) - base)
	.org 0x200
	.globl entry
entry:
	cli
	cld
	/* Ring 3 starts with interrupts on: the 8259s (firmware's timer) must be quiet. */
	mov $0xff, %al
	out %al, $0x21
	out %al, $0xa1
	mov $cpu_blocks, %ebx
	/* The only memory ring 3 needs cleared before it can run: the I/O bitmap. */
	lea CPU_TSS(%rbx), %rdi
	xor %eax, %eax
	mov $(TSS_SIZE + IOMAP_SIZE) / 8, %ecx
	rep stosq
	movb $0xff, (%rdi)
	movw $TSS_SIZE, CPU_TSS + TSS_IOMAP(%rbx)
	lea CPU_TOP(%rbx), %rax
	mov %rax, CPU_TSS + TSS_RSP0(%rbx)
	/* Its descriptor: cpu_blocks lies below 4 GiB. */
	lea CPU_TSS(%rbx), %eax
	mov %ax, ABS(gdt) + FIRST_TSS + 2
	shr $16, %eax
	mov %al, ABS(gdt) + FIRST_TSS + 4
	mov %ah, ABS(gdt) + FIRST_TSS + 7
	movb $0x89, ABS(gdt) + FIRST_TSS + 5	/* not busy, also after a warm start */
	mov $FIRST_TSS, %r8d
	mov $boot_cpu, %r9d

	/* rbx: this vCPU's block, r8: its TSS selector, r9: ring-3 entry, rsi: its argument */
to_ring3:
	mov $ABS(pml4), %eax
	mov %rax, %cr3
	lgdt ABS(gdt_pointer)
	lidt ABS(idt_pointer)
	mov $KERNEL_DS, %eax
	mov %eax, %ss
	lea CPU_TOP(%rbx), %rsp
	push $KERNEL_CS
	push $ABS(1f)
	lretq
1:	ltr %r8w
	mov $USER_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %rbx, %rdi
	push $USER_DS
	lea CPU_USER_TOP - 8(%rbx), %rax
	push %rax
	push $0x202
	push $USER_CS
	push %r9
	iretq

	/* ---- interrupts: count, acknowledge ---- */
	.balign 16
irq_stubs:
	.set vector, FIRST_IRQ
	.rept 256 - FIRST_IRQ
	.balign 16
	push %rax
	mov $vector, %eax
	jmp irq_common
	.set vector, vector + 1
	.endr
	.balign 16
irq_common:
	push %rdx
	mov %rsp, %rdx
	and $CPU_MASK, %rdx
	incl CPU_IRQS(%rdx, %rax, 4)
	incq CPU_EVENTS(%rdx)
	cmp $SPURIOUS, %eax
	je 1f
	mov $LAPIC_EOI, %eax
	movl $0, (%rax)
1:	pop %rdx
	pop %rax
	iretq

	/* ---- the gate: UD2 in ring 3 with the function in eax ---- */
	.balign 16
gate:
	testb $3, 8(%rsp)
	jz trap_ud
	cmp $GATE_IDLE, %eax
	je gate_idle
	cmp $GATE_RDMSR, %eax
	je gate_rdmsr
	cmp $GATE_CPUID, %eax
	je gate_cpuid
	cmp $GATE_WRMSR, %eax
	jne trap_ud
	/* ecx: MSR, edx:esi: value. eax becomes 0, or -1 if it faulted. */
	mov %esi, %eax
wrmsr_here:
	wrmsr
	xor %eax, %eax
	jmp gate_out
gate_cpuid:
	/* esi: leaf, ecx: subleaf. In ring 3 kvm-pvm would let the host's show. */
	mov %esi, %eax
	cpuid
	jmp gate_out
gate_rdmsr:
	/* ecx: MSR. edx:eax: value; esi 0, or -1 if it faulted. */
	xor %esi, %esi
rdmsr_here:
	rdmsr
	jmp gate_out
gate_idle:
	/* rbx: the count of events that the caller has dealt with. Clobbers rdx. */
	mov %rsp, %rdx
	and $CPU_MASK, %rdx
	cmp %rbx, CPU_EVENTS(%rdx)
	jne gate_out
	sti
	hlt
	cli
gate_out:
	addq $2, (%rsp)
	iretq

	/* ---- faults: tell ring 3, which prints ---- */
trap_ud:
	push $0
	push $UD_VECTOR
	jmp trap_common
	.balign 16
trap_stubs:
	.set vector, 0
	.rept 32
	.balign 16
	/* These push an error code themselves. */
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	push $0
	.endif
	push $vector
	jmp trap_common
	.set vector, vector + 1
	.endr
	.balign 16
trap_common:
	/* An MSR that is not there is an answer, not a fault. */
	cmpq $ABS(wrmsr_here), 16(%rsp)
	je 1f
	cmpq $ABS(rdmsr_here), 16(%rsp)
	jne 2f
	mov $-1, %esi
1:	mov $-1, %eax
	mov 40(%rsp), %rsp	/* where the gate was when its instruction faulted */
	jmp gate_out
2:	mov %rsp, %rdx
	and $CPU_MASK, %rdx
	pop CPU_TRAP(%rdx)
	pop CPU_TRAP + 8(%rdx)
	mov (%rsp), %rax
	mov %rax, CPU_TRAP + 16(%rdx)
	mov 24(%rsp), %rax
	mov %rax, CPU_TRAP + 24(%rdx)
	mov %cr2, %rax
	mov %rax, CPU_TRAP + 32(%rdx)
	mov %rdx, %rdi
	lea CPU_TOP(%rdx), %rsp
	push $USER_DS
	lea CPU_USER_TOP - 8(%rdx), %rax
	push %rax
	push $0x202
	push $USER_CS
	push $trap_report
	iretq

	/* ---- the other vCPUs: copied to AP_PAGE, real mode, cs = AP_PAGE / 16 ---- */
	.code16
	.globl ap_code, ap_code_end, ap_block, ap_tr
ap_code:
	cli
	mov %cs, %ax
	mov %ax, %ds
	lgdtl ap_gdt_pointer - ap_code
	mov $0x20, %eax		/* PAE */
	mov %eax, %cr4
	mov $ABS(pml4), %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov %cr0, %eax
	and $0x9fffffff, %eax	/* caches on */
	or $0x80000001, %eax	/* PG, PE */
	mov %eax, %cr0
	ljmpl $KERNEL_CS, $ABS(ap_entry)
	.balign 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long ABS(gdt)
ap_code_end:
	.code64
ap_entry:
	mov $KERNEL_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov ABS(ap_block), %ebx
	mov ABS(ap_tr), %r8d
	mov $ap_main, %r9d
	xor %esi, %esi
	jmp to_ring3
	.balign 8
ap_block:
	.long 0
ap_tr:
	.long 0

	/* ---- tables, all made by the assembler ---- */
	.balign 8
	.globl gdt
gdt:
	.quad 0, 0
	.quad 0x00af9b000000ffff	/* 0x10 ring-0 code */
	.quad 0x00cf93000000ffff	/* 0x18 ring-0 data */
	.quad 0
	.quad 0x00cff3000000ffff	/* 0x28 ring-3 data */
	.quad 0x00affb000000ffff	/* 0x30 ring-3 code */
	.quad 0
	.rept 16			/* 0x40 a TSS for each vCPU */
	.quad 0x0000890000000000 | (TSS_LIMIT & 0xffff)
	.quad 0
	.endr
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad ABS(gdt)
idt_pointer:
	.word 256 * 16 - 1
	.quad ABS(idt)

	.macro idt_gate address:vararg
	.word (\address) & 0xffff, KERNEL_CS
	.word 0x8e00, (\address) >> 16
	.quad 0
	.endm
	.balign 16
idt:
	.set vector, 0
	.rept 32
	.if vector == UD_VECTOR
	idt_gate ABS(gate)
	.else
	idt_gate ABS(trap_stubs) + vector * 16
	.endif
	.set vector, vector + 1
	.endr
	.rept 256 - 32
	idt_gate ABS(irq_stubs) + (vector - FIRST_IRQ) * 16
	.set vector, vector + 1
	.endr

	/* Identity, ring 3 allowed: the low 4 GiB here, the rest added by memory.c. */
	.balign 4096
	.globl pml4, pdpt
pml4:
	.quad ABS(pdpt) + 7
	.fill 511, 8, 0
pdpt:
	.quad ABS(pd) + 0x0007, ABS(pd) + 0x1007, ABS(pd) + 0x2007, ABS(pd) + 0x3007
	.fill 508, 8, 0
pd:
	.set page, 0
	.rept 2048
	.if page >= 0xe0000000		/* devices: not cached */
	.quad page + 0x9f
	.else
	.quad page + 0x87
	.endif
	.set page, page + 0x200000
	.endr

	.section .note.GNU-stack, "", @progbits
