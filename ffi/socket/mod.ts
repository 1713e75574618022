/**
 * Sockets: addresses as bytes.
 *
 * @module
 */
export * from "./sockaddr.ts";
