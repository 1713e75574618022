// The code part of the stub of ffi/process/stub.ts, for aarch64 (AAPCS64).
// See stub_x86_64.S for what each entry does.
.text
// long raw(long number, long a0 .. a5)
raw:
  mov x8, x0
  mov x0, x1
  mov x1, x2
  mov x2, x3
  mov x3, x4
  mov x4, x5
  mov x5, x6
  svc #0
  ret
.balign 32
// long spawn(struct clone_args *args, size_t size, struct op *table)
spawn:
  mov x9, x2
  mov x8, #435
  svc #0
  cbz x0, 1f
  ret
1: mov x19, x9
2: ldr x8, [x19]
  ldp x0, x1, [x19, #8]
  ldp x2, x3, [x19, #24]
  ldp x4, x5, [x19, #40]
  svc #0
  str x0, [x19, #64]
  cmn x0, #4095
  b.lo 3f
  ldr x10, [x19, #56]
  tbz x10, #0, 4f
3: add x19, x19, #72
  b 2b
4: mov x0, #127
  mov x8, #93
  svc #0
  brk #0
