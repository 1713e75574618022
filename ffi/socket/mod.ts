/**
 * Sockets: addresses as bytes.
 *
 * @module
 */
export * from "./receive_batch.ts";
export * from "./sockaddr.ts";
export * from "./unix_datagram.ts";
export * from "./udp_io.ts";
export * from "./udp_options.ts";
export * from "./udp_receive.ts";
export * from "./udp_send.ts";
export * from "./udp_slab.ts";
export * from "./udp_socket.ts";
