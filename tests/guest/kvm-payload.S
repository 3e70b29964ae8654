/* SPDX-License-Identifier: Apache-2.0
 * Runs: guest (bare vCPU, no kernel).
 * kvm-payload.S -- the smallest guests that prove a VMM really runs a vCPU.
 * No libc, no kernel, no firmware calls; COM1 at 0x3f8 only.
 *
 * A. ELF with PVH note + multiboot1 header, 32-bit, no paging (needs no firmware):
 *      gcc -c -o p.o kvm-payload.S
 *      ld -N -n -Ttext 0x100000 -e _start -o payload64.elf p.o      (PVH loaders: QEMU microvm/pc/q35
 *                                                                  -kernel, Cloud Hypervisor, Firecracker)
 *      objcopy -O elf32-i386 payload64.elf payload32.elf           (multiboot loaders)
 * B. 512-byte boot sector, 16-bit real mode (any BIOS, -drive):
 *      gcc -m32 -DBOOTSECT -c -o b.o kvm-payload.S
 *      ld -m elf_i386 -Ttext 0x7c00 -e _start --oformat binary -o payload.img b.o
 * Add -DEXIT to either: after the banner leave at once by isa-debug-exit (port 0xf4, value 0x10:
 * qemu's exit status is 33) instead of staying for commands.
 *
 * A needs a local APIC timer and COM1 on IOAPIC pin 4 -- every one of QEMU pc/q35/microvm,
 * Firecracker and Cloud Hypervisor has both; PIC and PIT are not used (Cloud Hypervisor has none).
 * KVM and TCG both count the APIC timer at 1 GHz, so 100 Hz is exact.
 *
 * Commands on the serial line (A: interrupt driven, idles in HLT; B: polls):
 *   c  print the tick counter (A: local APIC timer, 100 Hz; B: poll rounds) as 8 hex digits
 *   x  debug-exit (0xf4 <- 0x10)          q  power off: 0x600 <- 0x34 (Cloud Hypervisor), then
 *   any other byte is echoed                 0x64 <- 0xfe (i8042 reset; Firecracker exits on it)
 */
#define COM1 0x3f8

#ifdef BOOTSECT /* ------------------------------------------------------------ boot sector */
        .code16
        .text
        .globl _start
_start: cli
        cld
        ljmp $0,$1f
1:      xor %ax,%ax
        mov %ax,%ds
        mov %ax,%ss
        mov $0x7c00,%sp
        xor %ebx,%ebx
        mov $banner,%si
2:      lodsb
        test %al,%al
        jz 3f
        call putc
        jmp 2b
3:
#ifdef EXIT
        mov $0x10,%al
        out %al,$0xf4
#endif
poll:   inc %ebx
        mov $COM1+5,%dx
        in %dx,%al
        test $1,%al
        jz poll
        mov $COM1,%dx
        in %dx,%al
        cmp $'x',%al
        je do_x
        cmp $'q',%al
        je do_q
        cmp $'c',%al
        je do_c
        call putc
        jmp poll
do_x:   mov $0x10,%al
        out %al,$0xf4
        jmp poll
do_q:   mov $0xfe,%al
        out %al,$0x64
        hlt
        jmp do_q
do_c:   mov $8,%cx
4:      rol $4,%ebx
        mov %bl,%al
        and $15,%al
        cmp $10,%al
        sbb $0x69,%al
        das
        call putc
        loop 4b
        mov $'\n',%al
        call putc
        jmp poll
putc:   mov %al,%ah
        mov $COM1+5,%dx
5:      in %dx,%al
        test $0x20,%al
        jz 5b
        mov %ah,%al
        mov $COM1,%dx
        out %al,%dx
        ret
banner: .asciz "KVM-PAYLOAD-OK bootsect\r\n"
        .org 510
        .word 0xaa55

#else /* ------------------------------------------------------------------- PVH / multiboot */
        .code32
        .text
        .align 4
mb:     .long 0x1BADB002, 0x10003, -(0x1BADB002 + 0x10003), mb, mb, edata, end, _start
        .globl _start
_start: cli
        cld
        lgdt gdtr
        ljmp $8,$1f
1:      mov $16,%eax
        mov %eax,%ds
        mov %eax,%es
        mov %eax,%ss
        mov $stack,%esp
        mov $idt,%edi                   /* 256 gates -> spurious */
        mov $spur,%edx
        mov $256,%ecx
2:      call gate
        loop 2b
        mov $idt+0x20*8,%edi
        mov $irq0,%edx
        call gate
        mov $idt+0x24*8,%edi
        mov $irq4,%edx
        call gate
        lidt idtr
        mov $0xff,%al                   /* legacy PICs, if any: all masked */
        out %al,$0x21
        out %al,$0xa1
        movl $0x1ff,0xfee000f0          /* local APIC on, spurious vector 255 */
        movl $0xb,0xfee003e0            /* timer: divide by 1, periodic, vector 0x20, 10 ms */
        movl $0x20020,0xfee00320
        movl $10000000,0xfee00380
        movl $0x19,0xfec00000           /* IOAPIC pin 4, high half: our APIC id */
        mov 0xfee00020,%eax
        and $0xff000000,%eax
        mov %eax,0xfec00010
        movl $0x18,0xfec00000           /* low half: vector 0x24, fixed, edge, unmasked */
        movl $0x24,0xfec00010
        mov $COM1+1,%dx                 /* uart: rx interrupt on, OUT2+RTS+DTR */
        mov $1,%al
        out %al,%dx
        mov $COM1+4,%dx
        mov $0x0b,%al
        out %al,%dx
        mov $banner,%esi
        call puts
#ifdef EXIT
        mov $0x10,%al
        out %al,$0xf4
#endif
idle:   mov $stack,%esp                 /* handlers drop their frame and come here: KVM's emulator */
        sti                             /* (PVM host) has no protected-mode IRET */
5:      hlt
        jmp 5b

gate:   mov %dx,(%edi)
        movw $8,2(%edi)
        movw $0x8e00,4(%edi)
        mov %edx,%eax
        shr $16,%eax
        mov %ax,6(%edi)
        add $8,%edi
        ret
spur:   jmp idle
irq0:   incl ticks
eoi:    movl $0,0xfee000b0
        jmp idle
irq4:
6:      mov $COM1+5,%dx
        in %dx,%al
        test $1,%al
        jz eoi
        mov $COM1,%dx
        in %dx,%al
        cmp $'x',%al
        je do_x
        cmp $'q',%al
        je do_q
        cmp $'c',%al
        je do_c
        call putc
        jmp 6b
do_x:   mov $0x10,%al
        out %al,$0xf4
        jmp 6b
do_q:   mov $0x600,%dx
        mov $0x34,%al
        out %al,%dx
        mov $0xfe,%al
        out %al,$0x64
        jmp 6b
do_c:   mov ticks,%ebx
        mov $8,%ecx
7:      rol $4,%ebx
        mov %bl,%al
        and $15,%al
        add $'0',%al
        cmp $'9',%al
        jbe 8f
        add $7,%al
8:      call putc
        loop 7b
        mov $'\n',%al
        call putc
        jmp 6b
puts:   lodsb
        test %al,%al
        jz 8f
        call putc
        jmp puts
8:      ret
putc:   push %edx
        mov $COM1,%dx
        out %al,%dx
        pop %edx
        ret
banner: .asciz "KVM-PAYLOAD-OK pvh\r\n"
        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word gdtr - gdt - 1
        .long gdt
idtr:   .word 2047
        .long idt
        .align 8
ticks:  .long 0
edata:
        .section .note.PVH,"a",@note            /* XEN_ELFNOTE_PHYS32_ENTRY */
        .long 4, 8, 18
        .asciz "Xen"
        .quad _start
        .bss
        .align 16
idt:    .skip 2048
        .skip 1024
stack:
end:
#endif
