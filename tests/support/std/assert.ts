/**
 * The part of `@std/assert` that the tests use, over `node:assert`.
 *
 * Names, argument order and meaning are those of `@std/assert`, so that a test reads the same as
 * any other Deno test and the import map may point at the real package one day. Equality is
 * `node:assert`'s strict deep equality: prototypes count, `NaN` equals `NaN`, `-0` is not `0`.
 *
 * Every failure is an `AssertionError`. Nothing here reads a clock or touches the world.
 *
 * @module
 */

import nodeAssert from "node:assert/strict";

/** The error thrown by every function of this module when what it asserts does not hold. */
export const AssertionError: typeof nodeAssert.AssertionError = nodeAssert.AssertionError;

/** A constructor of errors, as `assertThrows` and `assertRejects` take it (abstract ones too). */
// deno-lint-ignore no-explicit-any -- a constructor's parameters are contravariant: only `any` accepts all
export type ErrorClass<E extends Error = Error> = abstract new (...args: any[]) => E;

function failWith(message: string, actual?: unknown, expected?: unknown): never {
  throw new nodeAssert.AssertionError({ message, actual, expected });
}

function suffix(message: string | undefined): string {
  return message === undefined ? "" : `: ${message}`;
}

/** Fails at once. */
export function fail(message?: string): never {
  failWith(`Failed assertion${suffix(message)}`);
}

/** Asserts that `expression` is truthy, and narrows its type. */
export function assert(expression: unknown, message = ""): asserts expression {
  if (!expression) failWith(message === "" ? "Expected a truthy value" : message);
}

/** Asserts that `expression` is falsy. */
export function assertFalse(expression: unknown, message = ""): void {
  if (expression) failWith(message === "" ? "Expected a falsy value" : message);
}

/** Asserts deep strict equality. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  try {
    nodeAssert.deepStrictEqual(actual, expected);
  } catch (error) {
    if (message === undefined || !(error instanceof Error)) throw error;
    failWith(`${message}\n${error.message}`, actual, expected);
  }
}

/** Asserts that two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.notDeepStrictEqual(actual, expected, message);
}

/** Asserts identity by `Object.is`, and narrows the type of `actual`. */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  message?: string,
): asserts actual is T {
  nodeAssert.strictEqual(actual, expected, message);
}

/** Asserts that two values are not identical by `Object.is`. */
export function assertNotStrictEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.notStrictEqual(actual, expected, message);
}

/** Asserts that a value is neither `null` nor `undefined`, and narrows its type. */
export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T> {
  if (actual === undefined || actual === null) {
    failWith(`Expected a value, got ${String(actual)}${suffix(message)}`);
  }
}

/** Asserts `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, message?: string): void {
  if (!(actual > expected)) failWith(`Expected ${actual} > ${expected}${suffix(message)}`);
}

/** Asserts `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual >= expected)) failWith(`Expected ${actual} >= ${expected}${suffix(message)}`);
}

/** Asserts `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, message?: string): void {
  if (!(actual < expected)) failWith(`Expected ${actual} < ${expected}${suffix(message)}`);
}

/** Asserts `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual <= expected)) failWith(`Expected ${actual} <= ${expected}${suffix(message)}`);
}

/** Asserts that two numbers differ by at most `tolerance` (default: a ten-millionth of `expected`). */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance: number = Math.abs(expected) * 1e-7 || 1e-7,
  message?: string,
): void {
  if (Object.is(actual, expected) || Math.abs(actual - expected) <= tolerance) return;
  failWith(`Expected ${actual} to be within ${tolerance} of ${expected}${suffix(message)}`);
}

/** Asserts that `actual` contains the text `expected`. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  if (actual.includes(expected)) return;
  failWith(
    `Expected ${JSON.stringify(actual)} to include ${JSON.stringify(expected)}${suffix(message)}`,
  );
}

/** Asserts that `actual` contains every element of `expected` (by deep equality). */
export function assertArrayIncludes<T>(
  actual: ArrayLike<T>,
  expected: ArrayLike<T>,
  message?: string,
): void {
  const have = Array.from(actual);
  const missing = Array.from(expected).filter((want) => !have.some((one) => isEqual(one, want)));
  if (missing.length > 0) {
    failWith(
      `Expected the array to include ${inspect(missing)}${suffix(message)}`,
      actual,
      expected,
    );
  }
}

/** Asserts that `actual` matches the pattern. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  if (actual.match(expected) !== null) return;
  failWith(`Expected ${JSON.stringify(actual)} to match ${expected}${suffix(message)}`);
}

/** Asserts that `actual` does not match the pattern. */
export function assertNotMatch(actual: string, expected: RegExp, message?: string): void {
  if (actual.match(expected) === null) return;
  failWith(`Expected ${JSON.stringify(actual)} not to match ${expected}${suffix(message)}`);
}

/** Asserts that every property of `expected` stands in `actual` with a deeply equal value, at any depth. */
export function assertObjectMatch(actual: object, expected: object, message?: string): void {
  const path = firstMismatch(actual, expected, "");
  if (path !== undefined) {
    const where = path === "" ? "the value" : JSON.stringify(path.slice(1));
    failWith(
      `Expected ${where} to match\n  found  ${inspect(actual)}\n  wanted ${inspect(expected)}${
        suffix(message)
      }`,
      actual,
      expected,
    );
  }
}

/** Asserts that `actual` is an instance of `expectedClass`, and narrows its type. */
export function assertInstanceOf<T>(
  actual: unknown,
  // deno-lint-ignore no-explicit-any -- see ErrorClass
  expectedClass: abstract new (...args: any[]) => T,
  message = "",
): asserts actual is T {
  if (actual instanceof expectedClass) return;
  failWith(
    `Expected an instance of ${expectedClass.name}, got ${describe(actual)}${
      suffix(message || undefined)
    }`,
  );
}

/** Asserts that `error` is of a class and that its message includes a text. */
export function assertIsError<E extends Error = Error>(
  error: unknown,
  errorClass?: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): asserts error is E {
  if (!(error instanceof Error)) {
    failWith(`Expected an Error, got ${describe(error)}${suffix(message)}`);
  }
  if (errorClass !== undefined && !(error instanceof errorClass)) {
    failWith(
      `Expected an error of class ${errorClass.name}, got ${describe(error)}${suffix(message)}`,
    );
  }
  if (messageIncludes !== undefined && !error.message.includes(messageIncludes)) {
    failWith(
      `Expected the error's message to include ${JSON.stringify(messageIncludes)}, got ${
        JSON.stringify(error.message)
      }${suffix(message)}`,
    );
  }
}

/** Asserts that `fn` throws; returns what it threw. */
export function assertThrows(fn: () => unknown, message?: string): unknown;
/** Asserts that `fn` throws an error of a class, whose message includes a text; returns it. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  classOrMessage?: ErrorClass<E> | string,
  messageIncludes?: string,
  message?: string,
): unknown {
  const text = typeof classOrMessage === "string" ? classOrMessage : message;
  try {
    fn();
  } catch (error) {
    if (typeof classOrMessage === "function") {
      assertIsError(error, classOrMessage, messageIncludes, text);
    }
    return error;
  }
  failWith(`Expected the function to throw${suffix(text)}`);
}

/** Asserts that `fn` returns a promise that rejects; resolves to what it rejected with. */
export function assertRejects(fn: () => PromiseLike<unknown>, message?: string): Promise<unknown>;
/** Asserts that `fn` rejects with an error of a class, whose message includes a text; resolves to it. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): Promise<E>;
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  classOrMessage?: ErrorClass<E> | string,
  messageIncludes?: string,
  message?: string,
): Promise<unknown> {
  const text = typeof classOrMessage === "string" ? classOrMessage : message;
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch (error) {
    // A synchronous throw is a different contract from a rejected promise: say so.
    failWith(
      `Expected a rejected promise, but the function threw ${describe(error)}${suffix(text)}`,
    );
  }
  try {
    await promise;
  } catch (error) {
    if (typeof classOrMessage === "function") {
      assertIsError(error, classOrMessage, messageIncludes, text);
    }
    return error;
  }
  failWith(`Expected the promise to reject${suffix(text)}`);
}

/** Tells whether two values are deeply and strictly equal. */
export function equal(a: unknown, b: unknown): boolean {
  return isEqual(a, b);
}

function isEqual(a: unknown, b: unknown): boolean {
  try {
    nodeAssert.deepStrictEqual(a, b);
    return true;
  } catch {
    // deepStrictEqual has no other way to say "no".
    return false;
  }
}

function firstMismatch(actual: unknown, expected: unknown, path: string): string | undefined {
  if (!isPlain(expected) || !isPlain(actual)) return isEqual(actual, expected) ? undefined : path;
  if (Array.isArray(expected) !== Array.isArray(actual)) return path;
  if (Array.isArray(expected) && expected.length !== (actual as unknown as unknown[]).length) {
    return `${path}.length`;
  }
  for (const key of Object.keys(expected)) {
    const found = firstMismatch(actual[key], expected[key], `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype ||
    Object.getPrototypeOf(value) === null ||
    !ArrayBuffer.isView(value) && !(value instanceof Date) &&
      !(value instanceof Map) && !(value instanceof Set) && !(value instanceof RegExp);
}

function describe(value: unknown): string {
  if (value instanceof Error) return `${value.name} ${JSON.stringify(value.message)}`;
  return inspect(value);
}

function inspect(value: unknown): string {
  return Deno.inspect(value, { depth: 6, strAbbreviateSize: 200 });
}
