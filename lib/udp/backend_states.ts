/**
 * States of backends as numbers, by index, for a look at each datagram.
 *
 * @module
 */

/** Backend states; 0 is up. */
export const BACKEND = { up: 0, down: 1, draining: 2, removed: 3 } as const;

/** The states. A backend of which nothing was said is up. */
export class BackendStates {
  #states = new Uint8Array(64);

  /** Sets a state; one of {@link BACKEND}. */
  set(backend: number, state: number): void {
    if (backend >= this.#states.length) {
      const states = new Uint8Array(Math.max(backend + 1, this.#states.length * 2));
      states.set(this.#states);
      this.#states = states;
    }
    this.#states[backend] = state;
  }

  /** A state. */
  of(backend: number): number {
    return this.#states[backend] ?? BACKEND.up;
  }

  /** Whether flows of this backend may want to leave it. */
  isGone(backend: number): boolean {
    const state = this.of(backend);
    return state === BACKEND.down || state === BACKEND.removed;
  }
}
