# The init of a cell (ffi/process/init.ts), for x86-64: pid 1, one page, no data, no libc.
# Arguments: name, one byte '0'+count, count paths to try, the workload's own arguments.
# Descriptors: 3 the status file, 4 the pipe that tells whether the workload was executed.
# It blocks all signals (the launch did so before) and takes them one by one.
#
# Stack slots: 0 pipe, 8 errno from the pipe, 16 child's errno, 24 empty signal set,
# 32 wait status, 40 full signal set, 48 record, 64 zeroed sigaction.
# r13 argv, r14 count, r15 paths, rbp pid of the workload, r12 environment.
.intel_syntax noprefix
.text
start:
  mov rax, [rsp]
  lea r13, [rsp+8]
  lea r12, [r13+rax*8+8]
  mov rax, [r13+8]
  movzx r14d, byte ptr [rax]
  sub r14d, 48
  lea r15, [r13+16]
  sub rsp, 128
  and rsp, -16
  xor eax, eax
  mov [rsp+24], rax
  mov [rsp+56], rax
  mov [rsp+64], rax
  mov [rsp+72], rax
  mov [rsp+80], rax
  mov [rsp+88], rax
  dec rax
  mov [rsp+40], rax
  mov edi, 4             # prctl(PR_SET_DUMPABLE, 0): closes /proc/1 to the workload
  xor esi, esi
  mov eax, 157
  syscall
  mov edi, 3             # close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
  mov esi, -1
  mov edx, 4
  mov eax, 436
  syscall
  mov edi, 2             # rt_sigprocmask(SIG_SETMASK, all): taken one by one below
  lea rsi, [rsp+40]
  xor edx, edx
  mov r10d, 8
  mov eax, 14
  syscall
  mov ebx, 64            # what was ignored stays ignored over exec: set all to default
0:
  mov edi, ebx           # rt_sigaction(signal, SIG_DFL, 0, 8)
  lea rsi, [rsp+64]
  xor edx, edx
  mov r10d, 8
  mov eax, 13
  syscall
  dec ebx
  jnz 0b
  mov rdi, rsp           # pipe2(O_CLOEXEC)
  mov esi, 0x80000
  mov eax, 293
  syscall
  test rax, rax
  js failed
  mov edi, 0x4111        # clone(CLONE_VM | CLONE_VFORK | SIGCHLD)
  xor esi, esi
  xor edx, edx
  xor r10d, r10d
  xor r8d, r8d
  mov eax, 56
  syscall
  test rax, rax
  jz child
  js failed
  mov ebp, eax
  mov edi, [rsp+4]       # close(pipe[1])
  mov eax, 3
  syscall
  mov edi, [rsp]         # read(pipe[0]): nothing comes when exec closed the other end
  lea rsi, [rsp+8]
  mov edx, 4
  xor eax, eax
  syscall
  cmp rax, 4
  je told
  mov edi, [rsp]         # close(pipe[0])
  mov eax, 3
  syscall
  mov dword ptr [rsp+48], 0
  mov dword ptr [rsp+52], 0
  call ready
  mov edi, 4
  mov eax, 3
  syscall
wait:
  lea rdi, [rsp+40]      # rt_sigtimedwait(all, 0, 0, 8)
  xor esi, esi
  xor edx, edx
  mov r10d, 8
  mov eax, 128
  syscall
  test eax, eax
  js wait
  cmp eax, 17            # SIGCHLD
  je reap
  mov edi, ebp           # kill(workload, signal)
  mov esi, eax
  mov eax, 62
  syscall
  jmp wait
reap:
  mov edi, -1            # wait4(-1, &status, __WALL | WNOHANG, 0)
  lea rsi, [rsp+32]
  mov edx, 0x40000001
  xor r10d, r10d
  mov eax, 61
  syscall
  test eax, eax
  jle wait
  cmp eax, ebp
  jne reap
  mov ebx, [rsp+32]
  mov dword ptr [rsp+48], 0x54495845   # "EXIT"
  mov [rsp+52], ebx
  call record
  mov edi, ebx
  and edi, 0x7f
  jz 1f
  add edi, 128
  jmp leave
1:
  mov edi, ebx
  shr edi, 8
  and edi, 255
  jmp leave
told:
  mov eax, [rsp+8]
  neg rax
failed:                  # rax: -errno
  neg rax
  mov ebx, eax
  mov dword ptr [rsp+48], 0x43455845   # "EXEC"
  mov [rsp+52], ebx
  call record
  mov [rsp+48], ebx
  mov dword ptr [rsp+52], 0
  call ready
  mov edi, 127
  cmp ebx, 2             # ENOENT
  je leave
  cmp ebx, 20            # ENOTDIR
  je leave
  dec edi
leave:
  mov eax, 231           # exit_group
  syscall
  hlt
record:                  # pwrite64(3, record, 16, 0); the return address is on the stack
  lea rsi, [rsp+56]
  mov qword ptr [rsp+64], 0
  mov edi, 3
  mov edx, 16
  xor r10d, r10d
  mov eax, 18
  syscall
  ret
ready:                   # write(4, record, 8)
  lea rsi, [rsp+56]
  mov edi, 4
  mov edx, 8
  mov eax, 1
  syscall
  ret
child:                   # shares our memory until it executes: registers and slot 16 only
  mov eax, 112           # setsid
  syscall
  mov edi, 2             # rt_sigprocmask(SIG_SETMASK, none)
  lea rsi, [rsp+24]
  xor edx, edx
  mov r10d, 8
  mov eax, 14
  syscall
  mov ebx, 2             # what is told when no path is given: ENOENT
  xor ebp, ebp           # whether one was refused
  lea r9, [r15+r14*8]    # the workload's arguments follow the paths
2:
  cmp r15, r9
  je 4f
  mov rdi, [r15]         # execve
  mov rsi, r9
  mov rdx, r12
  mov eax, 59
  syscall
  neg eax
  mov ebx, eax
  add r15, 8
  cmp eax, 2             # ENOENT and ENOTDIR: try the next
  je 2b
  cmp eax, 20
  je 2b
  cmp eax, 13            # EACCES: try the next, but tell it in the end
  jne 5f
  mov ebp, 1
  jmp 2b
4:
  test ebp, ebp
  jz 5f
  mov ebx, 13
5:
  mov [rsp+16], ebx
  mov edi, [rsp+4]       # write(pipe[1], &errno, 4)
  lea rsi, [rsp+16]
  mov edx, 4
  mov eax, 1
  syscall
  mov edi, 127
  mov eax, 231
  syscall
  hlt
