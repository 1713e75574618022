# The code part of the stub of ffi/process/stub.ts, for x86-64 (System V ABI).
# `raw` enters the kernel and returns its own answer (-errno in band).
# `spawn` clones; the child, which may share our memory, touches neither stack nor
# thread-local storage: it walks a table of system calls and stores each answer.
.intel_syntax noprefix
.text
# long raw(long number, long a0 .. a5)
raw:
  mov rax, rdi
  mov rdi, rsi
  mov rsi, rdx
  mov rdx, rcx
  mov r10, r8
  mov r8, r9
  mov r9, [rsp+8]
  syscall
  ret
.balign 32
# long spawn(struct clone_args *args, size_t size, struct op *table)
# struct op { u64 number, a0 .. a5, flags, answer }, 72 bytes.
# flags bit 0: go on although the call failed.
spawn:
  mov r8, rdx            # clone3 clobbers rcx and r11
  mov eax, 435
  syscall
  test rax, rax
  jz 1f
  ret
1: mov rbx, r8
2: mov rax, [rbx]
  mov rdi, [rbx+8]
  mov rsi, [rbx+16]
  mov rdx, [rbx+24]
  mov r10, [rbx+32]
  mov r8,  [rbx+40]
  mov r9,  [rbx+48]
  syscall
  mov [rbx+64], rax
  cmp rax, -4096
  jbe 3f
  test byte ptr [rbx+56], 1
  jz 4f
3: add rbx, 72
  jmp 2b
4: mov edi, 127
  mov eax, 60
  syscall
  hlt
