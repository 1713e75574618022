// The init of a cell (ffi/process/init.ts), for aarch64. See init_x86_64.S for what it does.
// x19 argv, x20 count, x21 paths, x22 pid of the workload, x23 environment, x24 scratch.
// Stack slots as there.
.text
start:
  ldr x0, [sp]
  add x19, sp, #8
  add x23, x19, x0, lsl #3
  add x23, x23, #8
  ldr x0, [x19, #8]
  ldrb w20, [x0]
  sub w20, w20, #48
  add x21, x19, #16
  sub sp, sp, #128
  stp xzr, xzr, [sp, #16]
  stp xzr, xzr, [sp, #48]
  stp xzr, xzr, [sp, #64]
  stp xzr, xzr, [sp, #80]
  mov x0, #-1
  str x0, [sp, #40]
  mov x0, #4               // prctl(PR_SET_DUMPABLE, 0)
  mov x1, #0
  mov x8, #167
  svc #0
  mov x0, #3               // close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
  mov w1, #-1
  mov x2, #4
  mov x8, #436
  svc #0
  mov x0, #2               // rt_sigprocmask(SIG_SETMASK, all)
  add x1, sp, #40
  mov x2, #0
  mov x3, #8
  mov x8, #135
  svc #0
  mov x24, #64
0:
  mov x0, x24              // rt_sigaction(signal, SIG_DFL, 0, 8)
  add x1, sp, #64
  mov x2, #0
  mov x3, #8
  mov x8, #134
  svc #0
  subs x24, x24, #1
  b.ne 0b
  mov x0, sp               // pipe2(O_CLOEXEC)
  mov x1, #0x80000
  mov x8, #59
  svc #0
  tbnz x0, #63, failed
  mov x0, #0x4111          // clone(CLONE_VM | CLONE_VFORK | SIGCHLD)
  mov x1, #0
  mov x2, #0
  mov x3, #0
  mov x4, #0
  mov x8, #220
  svc #0
  cbz x0, child
  tbnz x0, #63, failed
  mov w22, w0
  ldr w0, [sp, #4]         // close(pipe[1])
  mov x8, #57
  svc #0
  ldr w0, [sp]             // read(pipe[0])
  add x1, sp, #8
  mov x2, #4
  mov x8, #63
  svc #0
  cmp x0, #4
  b.eq told
  ldr w0, [sp]             // close(pipe[0])
  mov x8, #57
  svc #0
  str xzr, [sp, #48]
  bl ready
  mov x0, #4
  mov x8, #57
  svc #0
wait:
  add x0, sp, #40          // rt_sigtimedwait(all, 0, 0, 8)
  mov x1, #0
  mov x2, #0
  mov x3, #8
  mov x8, #137
  svc #0
  tbnz w0, #31, wait
  cmp w0, #17              // SIGCHLD
  b.eq reap
  mov w1, w0               // kill(workload, signal)
  mov w0, w22
  mov x8, #129
  svc #0
  b wait
reap:
  mov w0, #-1              // wait4(-1, &status, __WALL | WNOHANG, 0)
  add x1, sp, #32
  mov w2, #1
  movk w2, #0x4000, lsl #16
  mov x3, #0
  mov x8, #260
  svc #0
  cmp w0, #0
  b.le wait
  cmp w0, w22
  b.ne reap
  ldr w24, [sp, #32]
  movz w0, #0x5845         // "EXIT"
  movk w0, #0x5449, lsl #16
  stp w0, w24, [sp, #48]
  bl record
  and w0, w24, #0x7f
  cbz w0, 1f
  add w0, w0, #128
  b leave
1:
  ubfx w0, w24, #8, #8
  b leave
told:
  ldr w0, [sp, #8]
  neg x0, x0
failed:                    // x0: -errno
  neg x0, x0
  mov w24, w0
  movz w0, #0x5845         // "EXEC"
  movk w0, #0x4345, lsl #16
  stp w0, w24, [sp, #48]
  bl record
  stp w24, wzr, [sp, #48]
  bl ready
  mov w0, #127
  cmp w24, #2              // ENOENT
  b.eq leave
  cmp w24, #20             // ENOTDIR
  b.eq leave
  mov w0, #126
leave:
  mov x8, #94              // exit_group
  svc #0
  brk #0
record:                    // pwrite64(3, record, 16, 0)
  str xzr, [sp, #56]
  mov x0, #3
  add x1, sp, #48
  mov x2, #16
  mov x3, #0
  mov x8, #68
  svc #0
  ret
ready:                     // write(4, record, 8)
  mov x0, #4
  add x1, sp, #48
  mov x2, #8
  mov x8, #64
  svc #0
  ret
child:
  mov x8, #157             // setsid
  svc #0
  mov x0, #2               // rt_sigprocmask(SIG_SETMASK, none)
  add x1, sp, #24
  mov x2, #0
  mov x3, #8
  mov x8, #135
  svc #0
  mov w24, #2
  mov w25, #0
  add x26, x21, x20, lsl #3
2:
  cmp x21, x26
  b.eq 4f
  ldr x0, [x21], #8        // execve
  mov x1, x26
  mov x2, x23
  mov x8, #221
  svc #0
  neg w24, w0
  cmp w24, #2
  b.eq 2b
  cmp w24, #20
  b.eq 2b
  cmp w24, #13
  b.ne 5f
  mov w25, #1
  b 2b
4:
  cbz w25, 5f
  mov w24, #13
5:
  str w24, [sp, #16]
  ldr w0, [sp, #4]         // write(pipe[1], &errno, 4)
  add x1, sp, #16
  mov x2, #4
  mov x8, #64
  svc #0
  mov x0, #127
  mov x8, #94
  svc #0
  brk #0
