/**
 * The routes that flows were admitted with, each under a small number while a flow holds it.
 *
 * Thousands of flows share a route; a number in their row instead of a reference keeps what a
 * datagram reads together. A route that no flow holds any more is forgotten.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";
import type { RouteConfig } from "./contract.ts";

/** The routes. */
export class RouteSet {
  readonly #routes: (RouteConfig | undefined)[] = [];
  readonly #holders: number[] = [];
  readonly #numbers = new Map<RouteConfig, number>();
  readonly #free: number[] = [];
  /** The last one asked for: mostly the next one too. */
  #last = 0;

  /** Routes that are held. */
  get size(): number {
    return this.#numbers.size;
  }

  /** Counts a holder in. */
  hold(route: RouteConfig): number {
    const isLast = this.#routes[this.#last] === route;
    const number = isLast ? this.#last : this.#numbers.get(route) ?? this.#add(route);
    this.#last = number;
    this.#holders[number] += 1;
    return number;
  }

  /** Counts a holder out. */
  release(number: number): void {
    this.#holders[number] -= 1;
    assert(this.#holders[number] >= 0, `route ${number} has no holder`);
    if (this.#holders[number] > 0) return;
    this.#numbers.delete(this.at(number));
    this.#routes[number] = undefined;
    this.#free.push(number);
  }

  /** The route under a number that is held. */
  at(number: number): RouteConfig {
    return this.#routes[number]!;
  }

  #add(route: RouteConfig): number {
    const number = this.#free.pop() ?? this.#routes.length;
    this.#routes[number] = route;
    this.#holders[number] = 0;
    this.#numbers.set(route, number);
    return number;
  }
}
