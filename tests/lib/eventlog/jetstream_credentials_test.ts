/**
 * Who celld is to the broker: every kind of credentials, right and wrong, and TLS.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { nkeys } from "@nats-io/transport-node";
import { LogAwayError } from "#lib/eventlog/mod.ts";
import { type JetStreamCredentials, openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import { campaign } from "#tests/support/campaign.ts";
import { natsTest, startNats } from "#tests/support/nats.ts";
import { someEvent, withFolder } from "./log_fixture.ts";

/** Appends with good credentials, and is refused at once with bad ones. */
async function check(
  url: string,
  good: JetStreamCredentials | undefined,
  bad: JetStreamCredentials,
): Promise<void> {
  const log = await openJetStreamLog(url, good === undefined ? {} : { credentials: good });
  assertEquals(await log.append([someEvent("a")]), [1]);
  await log.close();
  const startMs = performance.now();
  const error = await assertRejects(
    () => openJetStreamLog(url, { credentials: bad, openTimeoutMs: 20_000 }),
    LogAwayError,
  );
  assert(performance.now() - startMs < 10_000, "a refusal is not waited out");
  assert(/authorization/i.test(error.message), error.message);
}

natsTest("jetstream log: user and password, by options or in the URL", async () => {
  await using server = await startNats({
    config: 'authorization { user: "celld", password: "pa:ss" }',
  });
  await check(server.url, { user: "celld", password: "pa:ss" }, { user: "celld", password: "x" });
  const log = await openJetStreamLog(server.url.replace("//", "//celld:pa%3Ass@"));
  assertEquals(await log.lastSeq(), 1);
  await log.close();
});

natsTest("jetstream log: a token", async () => {
  await using server = await startNats({ config: 'authorization { token: "t0ken" }' });
  await check(server.url, { token: "t0ken" }, { token: "other" });
});

natsTest("jetstream log: a broker that refuses again and again ends nothing", async () => {
  await using server = await startNats({ config: 'authorization { token: "t0ken" }' });
  // It cuts the connection, and now and then the reset is found when nobody listens any more.
  for (let attempt = 0; attempt < campaign(30, 300); attempt++) {
    await assertRejects(
      () => openJetStreamLog(server.url, { credentials: { token: "other" } }),
      LogAwayError,
    );
  }
  const log = await openJetStreamLog(server.url, { credentials: { token: "t0ken" } });
  assertEquals(await log.append([someEvent("a")]), [1]);
  await log.close();
});

natsTest(
  "jetstream log: credentials that are renewed are found, as they are asked for each time",
  async () => {
    await using server = await startNats({ config: 'authorization { token: "t0ken" }' });
    let token = "other";
    const log = await openJetStreamLog(server.url, {
      mayBeAway: true,
      readTimeoutMs: 300,
      credentials: () => ({ token }),
    });
    await assertRejects(() => log.read({ limit: 1 }), LogAwayError);
    assert(log.behind().isRefused);
    token = "t0ken";
    assertEquals(await log.append([someEvent("a")]), [1]);
    assert(!log.behind().isRefused);
    await log.close();
  },
);

natsTest("jetstream log: an nkey", async () => {
  const user = nkeys.createUser();
  const seed = new TextDecoder().decode(user.getSeed());
  const other = new TextDecoder().decode(nkeys.createUser().getSeed());
  await using server = await startNats({
    config: `authorization { users: [{ nkey: "${user.getPublicKey()}" }] }`,
  });
  await check(server.url, { nkeySeed: `${seed}\n` }, { nkeySeed: other });
});

natsTest("jetstream log: a creds file", () =>
  withFolder(async (folder) => {
    const operator = nkeys.createOperator();
    const account = nkeys.createAccount();
    const system = nkeys.createAccount();
    const limits = {
      subs: -1,
      conn: -1,
      leaf: -1,
      imports: -1,
      exports: -1,
      data: -1,
      payload: -1,
    };
    const storage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
    const accountToken = signToken(operator, account.getPublicKey(), "account", {
      limits: { ...limits, ...storage, wildcards: true },
    });
    const systemToken = signToken(operator, system.getPublicKey(), "account", { limits });
    await using server = await startNats({
      config: [
        `operator: "${signToken(operator, operator.getPublicKey(), "operator", {})}"`,
        `system_account: "${system.getPublicKey()}"`,
        "resolver: MEMORY",
        `resolver_preload: { ${account.getPublicKey()}: "${accountToken}", ${system.getPublicKey()}: "${systemToken}" }`,
      ].join("\n"),
    });
    const write = (name: string, signer: nkeys.KeyPair) => {
      const user = nkeys.createUser();
      const token = signToken(signer, user.getPublicKey(), "user", {
        subs: -1,
        data: -1,
        payload: -1,
      });
      const seed = new TextDecoder().decode(user.getSeed());
      Deno.writeTextFileSync(
        `${folder}/${name}`,
        `-----BEGIN NATS USER JWT-----\n${token}\n------END NATS USER JWT------\n\n` +
          `-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
      );
      return { credsFile: `${folder}/${name}` };
    };
    await check(
      server.url,
      write("good.creds", account),
      write("bad.creds", nkeys.createAccount()),
    );
  }));

/** A JWT as NATS wants it: signed by an nkey. */
function signToken(
  signer: nkeys.KeyPair,
  subject: string,
  type: string,
  nats: Record<string, unknown>,
): string {
  const claims = {
    jti: crypto.randomUUID(),
    iat: Math.floor(Date.now() / 1000),
    iss: signer.getPublicKey(),
    name: type,
    sub: subject,
    nats: { ...nats, type, version: 2 },
  };
  const head = `${encode({ typ: "JWT", alg: "ed25519-nkey" })}.${encode(claims)}`;
  const signature = signer.sign(new TextEncoder().encode(head));
  return `${head}.${signature.toBase64({ alphabet: "base64url", omitPadding: true })}`;
}

function encode(value: unknown): string {
  return new TextEncoder().encode(JSON.stringify(value))
    .toBase64({ alphabet: "base64url", omitPadding: true });
}

natsTest(
  "jetstream log: TLS, with our certificate and the authority from files",
  { needs: "openssl" },
  () =>
    withFolder(async (folder) => {
      makeCertificates(folder);
      const file = (name: string) => `${folder}/${name}`;
      await using server = await startNats({
        config: `tls { cert_file: "${file("server.crt")}", key_file: "${file("server.key")}", ` +
          `ca_file: "${file("ca.crt")}", verify: true }`,
      });
      const url = server.url.replace("127.0.0.1", "localhost");
      const tls = {
        caFile: file("ca.crt"),
        certFile: file("client.crt"),
        keyFile: file("client.key"),
      };
      const log = await openJetStreamLog(url, { credentials: { tls } });
      assertEquals(await log.append([someEvent("a")]), [1]);
      await log.close();
      // Neither an authority that we do not trust nor a client that the broker does not know.
      for (const files of [{}, { caFile: file("ca.crt") }]) {
        await assertRejects(
          () => openJetStreamLog(url, { credentials: { tls: files }, openTimeoutMs: 1500 }),
          LogAwayError,
        );
      }
    }),
);

/** An authority, and a certificate each for the server and for us. */
function makeCertificates(folder: string): void {
  const openssl = (...args: string[]) => {
    const { success, stderr } = new Deno.Command("openssl", { args, cwd: folder }).outputSync();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    "ca.key",
    "-out",
    "ca.crt",
    "-days",
    "2",
    "-subj",
    "/CN=celld test authority",
  );
  for (const name of ["server", "client"]) {
    openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
    Deno.writeTextFileSync(`${folder}/${name}.ext`, "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    openssl(
      "x509",
      "-req",
      "-in",
      `${name}.csr`,
      "-CA",
      "ca.crt",
      "-CAkey",
      "ca.key",
      "-CAcreateserial",
      "-out",
      `${name}.crt`,
      "-days",
      "2",
      "-extfile",
      `${name}.ext`,
    );
  }
}
