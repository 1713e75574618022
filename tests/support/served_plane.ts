/**
 * The API over a control plane for tests, on a port and a Unix socket of its own.
 *
 * @module
 */
import { HttpApp, type HttpServer, startHttpServer } from "#lib/http/mod.ts";
import { FakePlane } from "#tests/lib/http/plane.ts";

/** A server that runs. */
export interface ServedPlane {
  readonly plane: FakePlane;
  readonly url: string;
  readonly socketPath: string;
  /** Ends the server; state and log stay. */
  stop(): Promise<void>;
  /** Serves the same state and log again, at the same address. */
  restart(): Promise<void>;
}

/** Runs `use` with a server. */
export async function withServedPlane(
  use: (served: ServedPlane) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const socketPath = `${folder}/api.sock`;
  const plane = new FakePlane();
  const start = (port: number): Promise<HttpServer> =>
    startHttpServer({
      app: new HttpApp({ plane, onWarning: () => {}, onError: () => {} }),
      port,
      unixSocketPath: socketPath,
      drainMs: 2000,
    });
  let server = await start(0);
  const { port, url } = server;
  try {
    await use({
      plane,
      url,
      socketPath,
      stop: async () => {
        await server.stop();
      },
      restart: async () => {
        server = await start(port);
      },
    });
  } finally {
    await server.stop();
    await plane.log.close();
    await Deno.remove(folder, { recursive: true });
  }
}
