/**
 * Names and errors for the kernel's error numbers (`asm-generic/errno.h`).
 *
 * @module
 */

const NAMES = (
  "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY " +
  "EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK " +
  "EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC " +
  "EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR " +
  "ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG " +
  "EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE " +
  "EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP " +
  "EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET " +
  "ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY " +
  "EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY " +
  "EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON"
).split(" ");

/** Error numbers by name, positive: `ERRNO.EAGAIN === 11`. */
export const ERRNO: Readonly<Record<string, number>> = Object.fromEntries(
  NAMES.map((name, index) => [name, index + 1]).filter(([name]) => name !== "-"),
);

/** The name of a positive error number, such as `ENOENT`; `E<number>` where unknown. */
export function errnoName(errno: number): string {
  const name = NAMES[errno - 1];
  return name === undefined || name === "-" ? `E${errno}` : name;
}

/** The kernel refused a system call. */
export class SyscallError extends Error {
  /** The class's name. */
  override name = "SyscallError";
  /** The call, and what it was about: `openat "/run/x"`. */
  readonly op: string;
  /** Positive error number. */
  readonly errno: number;
  /** Its name, such as `EPERM`. */
  readonly code: string;

  /**
   * Describes the refusal.
   *
   * @param errno Positive error number.
   */
  constructor(op: string, errno: number, options?: ErrorOptions) {
    super(`Cannot ${op}: ${errnoName(errno)}`, options);
    this.op = op;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

/** Passes a non-negative kernel answer through; throws {@link SyscallError} on `-errno`. */
export function check(result: number, op: string): number {
  if (result < 0) throw new SyscallError(op, -result);
  return result;
}
