/**
 * Sockets: addresses as bytes, UDP, Unix sockets at safe places, messages with descriptors.
 *
 * @module
 */
export {
  type DescriptorMessage,
  DescriptorMessageError,
  DESCRIPTORS_MAX,
  MESSAGE_BYTES_MAX,
} from "./descriptor_message.ts";
export * from "./descriptor_socket.ts";
export * from "./receive_batch.ts";
export * from "./sockaddr.ts";
export * from "./unix_datagram.ts";
export * from "./udp_io.ts";
export * from "./udp_options.ts";
export * from "./udp_receive.ts";
export * from "./udp_send.ts";
export * from "./udp_slab.ts";
export * from "./udp_socket.ts";
export { UnixBindError, type UnixPlaceOptions } from "./unix_place.ts";
