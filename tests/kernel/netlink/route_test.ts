/**
 * rtnetlink in a real kernel, each test in namespaces of its own.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  addAddress,
  addNeighbour,
  addRoute,
  createVeth,
  deleteAddress,
  deleteLink,
  deleteRoute,
  findLink,
  getRoute,
  linkIndex,
  listAddresses,
  listLinks,
  listNeighbours,
  listRoutes,
  NetlinkConn,
  NetlinkError,
  renameLink,
  setLinkMtu,
  setLinkUp,
} from "#ffi/netlink/mod.ts";
import { linkHeader } from "#ffi/netlink/route/request.ts";
import { createNetns, withNetns } from "#ffi/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const MAC = "02:00:00:00:00:01";
const PEER_MAC = "02:00:00:00:00:02";

/** Two namespaces with a veth pair between them: `near` with ce7, `far` with eth0. */
function withPair(use: (near: NetlinkConn, far: NetlinkConn) => void): void {
  using nearNetns = createNetns();
  using farNetns = createNetns();
  using near = withNetns(nearNetns, () => NetlinkConn.open("route"));
  using far = withNetns(farNetns, () => NetlinkConn.open("route"));
  createVeth(near, {
    name: "ce7",
    peerName: "eth0",
    peerNetns: farNetns,
    mac: MAC,
    peerMac: PEER_MAC,
    mtu: 1400,
  });
  use(near, far);
}

kernelTest("createVeth() makes both ends with their MAC addresses and MTU", ["root"], () => {
  withPair((near, far) => {
    const ce7 = findLink(near, "ce7");
    const eth0 = findLink(far, "eth0");
    assertEquals([ce7?.mac, ce7?.mtu, ce7?.kind, ce7?.isUp], [MAC, 1400, "veth", false]);
    assertEquals([eth0?.mac, eth0?.mtu, eth0?.kind, eth0?.isUp], [PEER_MAC, 1400, "veth", false]);
    assertEquals(listLinks(near).map((link) => link.name).sort(), ["ce7", "lo"]);
    assert(listLinks(near).find((link) => link.name === "lo")?.isLoopback);
  });
});

kernelTest("createVeth() names the pair and the reason when a name is taken", ["root"], () => {
  withPair((near) => {
    const options = { name: "ce7", peerName: "x", peerNetns: near.fd.number };
    using other = createNetns();
    const error = assertThrows(
      () => createVeth(near, { ...options, peerNetns: other }),
      NetlinkError,
    );
    assertEquals([error.op, error.code], ['create veth pair "ce7"', "EEXIST"]);
  });
});

kernelTest("a link can be changed, renamed and deleted with its far end", ["root"], () => {
  withPair((near, far) => {
    const index = linkIndex(near, "ce7");
    setLinkMtu(near, index, 1300);
    renameLink(near, index, "ce8");
    setLinkUp(near, index);
    assertEquals(findLink(near, "ce7"), undefined);
    const link = findLink(near, "ce8");
    assertEquals([link?.index, link?.mtu, link?.isUp], [index, 1300, true]);
    setLinkUp(near, index, false);
    assertEquals(findLink(near, "ce8")?.isUp, false);
    assertEquals(deleteLink(near, "ce8"), true);
    assertEquals(deleteLink(near, "ce8"), false);
    assertEquals(deleteLink(near, index), false);
    assertEquals(findLink(far, "eth0"), undefined);
  });
});

kernelTest("linkIndex() throws ENODEV for a link that is not there", ["root"], () => {
  withPair((near) => {
    const error = assertThrows(() => linkIndex(near, "absent"), NetlinkError);
    assertEquals(error.code, "ENODEV");
  });
});

kernelTest("addresses of both families are added, listed and deleted", ["root"], () => {
  withPair((near) => {
    const index = linkIndex(near, "ce7");
    setLinkUp(near, index);
    addAddress(near, { index, address: "10.213.0.2", prefixLength: 31 });
    addAddress(near, { index, address: "fdce:11d0::2", prefixLength: 127, noDad: true });
    const listed = listAddresses(near).filter((address) => address.index === index);
    assertEquals(listed.filter((address) => address.scope === 0), [
      { index, address: "10.213.0.2", prefixLength: 31, family: 4, scope: 0 },
      { index, address: "fdce:11d0::2", prefixLength: 127, family: 6, scope: 0 },
    ]);
    const again = { index, address: "10.213.0.2", prefixLength: 31 };
    assertEquals(assertThrows(() => addAddress(near, again), NetlinkError).code, "EEXIST");
    deleteAddress(near, again);
    assertEquals(listAddresses(near).some((address) => address.address === "10.213.0.2"), false);
  });
});

kernelTest("default, network and host routes are added, asked for and deleted", ["root"], () => {
  withPair((near, far) => {
    const index = linkIndex(near, "ce7");
    setLinkUp(near, index);
    setLinkUp(far, linkIndex(far, "eth0"));
    addAddress(near, { index, address: "10.213.0.3", prefixLength: 31 });
    addAddress(near, { index, address: "fdce:11d0::3", prefixLength: 127, noDad: true });
    addRoute(near, { gateway: "10.213.0.2", index });
    addRoute(near, { gateway: "fdce:11d0::2", index });
    addRoute(near, { destination: "192.0.2.7", index });
    addRoute(near, { destination: "198.51.100.0", prefixLength: 24, gateway: "192.0.2.7", index });
    addRoute(near, {
      destination: "203.0.113.0",
      prefixLength: 24,
      gateway: "172.16.0.1",
      index,
      onlink: true,
      preferredSource: "10.213.0.3",
    });
    const main = listRoutes(near).filter((route) => route.table === 254);
    assertEquals(
      main.find((route) => route.destination === undefined && route.family === 4)?.gateway,
      "10.213.0.2",
    );
    assertEquals(getRoute(near, "8.8.8.8")?.gateway, "10.213.0.2");
    assertEquals(getRoute(near, "2001:db8::1")?.gateway, "fdce:11d0::2");
    assertEquals(getRoute(near, "192.0.2.7")?.gateway, undefined);
    assertEquals(getRoute(near, "198.51.100.9")?.gateway, "192.0.2.7");
    assertEquals(getRoute(near, "203.0.113.1")?.preferredSource, "10.213.0.3");
    deleteRoute(near, { gateway: "10.213.0.2", index });
    assertEquals(getRoute(near, "8.8.8.8"), undefined);
  });
});

kernelTest("addRoute() tells the kernel's own words with its refusal", ["root"], () => {
  withPair((near) => {
    const index = linkIndex(near, "ce7");
    setLinkUp(near, index);
    const error = assertThrows(() => addRoute(near, { gateway: "10.1.2.3", index }), NetlinkError);
    assertEquals([error.op, error.code], ["add route to default", "ENETUNREACH"]);
    assertEquals(error.kernelText, "Nexthop has invalid gateway");
  });
});

kernelTest("addNeighbour() sets and replaces a permanent entry", ["root"], () => {
  withPair((near) => {
    const index = linkIndex(near, "ce7");
    setLinkUp(near, index);
    for (const mac of [MAC, PEER_MAC]) {
      addNeighbour(near, { index, address: "10.213.0.2", mac });
      addNeighbour(near, { index, address: "fdce:11d0::2", mac });
    }
    const listed = listNeighbours(near).filter((neighbour) => neighbour.isPermanent);
    assertEquals(listed.map(({ address, mac }) => `${address} ${mac}`).sort(), [
      `10.213.0.2 ${PEER_MAC}`,
      `fdce:11d0::2 ${PEER_MAC}`,
    ]);
  });
});

kernelTest("request() sends many requests in pieces, and each is acknowledged", ["root"], () => {
  withPair((near) => {
    const requests = Array.from({ length: 200 }, (_, index) => ({
      what: `set flags ${index}`,
      type: 16, // RTM_NEWLINK
      flags: 0,
      // The last but one names a link that is not there.
      body: linkHeader(index === 198 ? 4711 : linkIndex(near, "ce7"), index % 2, 1),
    }));
    const error = assertThrows(() => near.request(...requests), NetlinkError);
    assertEquals([error.op, error.code], ["set flags 198", "ENODEV"]);
    assertEquals(findLink(near, "ce7")?.isUp, true); // the last one was carried out
    assertEquals(near.takePending(), []);
  });
});
