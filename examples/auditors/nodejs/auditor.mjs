// SPDX-License-Identifier: Apache-2.0
// An auditor without any of Headwater's code: it reads a tenant's stream as docs/stream-contract.md
// says, checks that nothing is missing and that every message is its node's, and counts what it saw.
//
//   npm ci      (Node.js 18 or later; three packages, pinned by digest)
//   node auditor.mjs --server nats://127.0.0.1:4222 --credentials acme.creds --tenant acme \
//       [--operator-key O...] [--durable NAME] [--once]
//
// In a cluster, with what stands in a ProvenanceAuditor's Secret, the consumer is there already:
//
//   node auditor.mjs --server "$(cat servers)" --credentials auditor.creds --tenant acme \
//       --consumer "$(cat consumer)" --inbox-prefix "$(cat inbox-prefix)" [--ca ca.crt]
//
// With --once it ends after what is stored now. It prints one JSON object at its end. Exit status: 0
// when everything is in order, 1 when something is missing, altered or forged, 2 for wrong words.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, credsAuthenticator } from '@nats-io/transport-node';
import { decompress } from 'fzstd';

const STREAM = 'PROV';
const NO_DIGEST = '0'.repeat(64);
const SECTIONS = [
  'wasDerivedFrom',
  'wasGeneratedBy',
  'used',
  'wasInformedBy',
  'wasInfluencedBy',
  'wasAssociatedWith',
];

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Ed25519 (RFC 8032) over a key of 32 bytes, which Node takes only with its ASN.1 head. */
function isSigned(key, signature, text) {
  const head = Buffer.from('302a300506032b6570032100', 'hex');
  const publicKey = createPublicKey({
    key: Buffer.concat([head, key]),
    format: 'der',
    type: 'spki',
  });
  return verify(null, text, publicKey, signature);
}

/** The text that a node signs, and of which the next message of its chain holds the digest. */
function signedText(tenant, message) {
  const names = message.headers
    .keys()
    .filter((name) => /^(hw-|nats-msg-id$)/i.test(name) && name !== 'Hw-Sig')
    .sort();
  const lines = ['headwater-message-v1', tenant, message.subject, sha256(message.data)];
  lines.push(...names.map((name) => `${name}:${message.headers.get(name)}`));
  return Buffer.from(lines.map((line) => `${line}\n`).join(''), 'utf8');
}

/** The 32 bytes of a public key as NATS spells it: base32 of a prefix, the key and a checksum. */
function natsKey(text) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...text].map((each) => alphabet.indexOf(each).toString(2).padStart(5, '0')).join('');
  const bytes = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  return bytes.subarray(1, 33);
}

/** Who a node's key belongs to: the operator's signed statement, from a checkpoint. */
function checkStatement(statement, node, key, operatorKeys) {
  const [head, signature] = statement.split('.');
  const said = JSON.parse(Buffer.from(head, 'base64url'));
  const text = Buffer.from(`headwater-node-statement-v1\n${head}`);
  return (
    said.version === 1 &&
    said.node === node &&
    said.key === key &&
    operatorKeys.includes(said.issuer) &&
    isSigned(natsKey(said.issuer), Buffer.from(signature, 'base64url'), text)
  );
}

/** The messages of one node and load: each knows the one before it. Holds only what waits. */
class Chain {
  constructor() {
    this.next = 1; // the position that comes next
    this.settled = 0; // up to here everything was stored or void, as the node says
    this.before = NO_DIGEST; // digest of the one before it; null where that was given up
    this.waiting = new Map(); // position -> { digest, previous }
    this.voids = new Map(); // position -> digest of what was given up, null but for the last
    this.broken = [];
  }

  /** Returns whether the message is new: one that came twice counts the first time. */
  take(position, settled, digest, previous, voids) {
    if (position < this.next || this.waiting.has(position)) return false;
    this.settled = Math.max(this.settled, settled);
    this.waiting.set(position, { digest, previous });
    for (const part of voids) {
      const [, first, last, given] = /^(\d+)-(\d+) ([0-9a-f]{64})$/.exec(part);
      for (let each = Number(first); each <= Number(last); each += 1)
        this.voids.set(each, each === Number(last) ? given : null);
    }
    this.advance();
    return true;
  }

  advance() {
    for (; this.waiting.has(this.next) || this.voids.has(this.next); this.next += 1) {
      const link = this.waiting.get(this.next);
      if (link && this.before !== null && link.previous !== this.before)
        this.broken.push(`message ${this.next} of the chain follows another than is here`);
      this.before = link ? link.digest : this.voids.get(this.next);
      this.waiting.delete(this.next);
      this.voids.delete(this.next);
    }
  }

  problems() {
    const found = [...this.broken];
    // Of a place above `settled` nobody has said that it was ever used.
    for (let position = this.next; position <= this.settled; position += 1)
      if (!this.waiting.has(position) && !this.voids.has(position))
        found.push(`message ${position} of the chain is missing`);
    // Behind a hole, neighbours still know each other.
    for (const [position, link] of this.waiting) {
      const before = this.waiting.get(position - 1)?.digest ?? this.voids.get(position - 1);
      if (before && link.previous !== before)
        found.push(`message ${position} of the chain follows another than is here`);
    }
    return found;
  }
}

/** The captured records of one node and load: from 1, each in one message, nearly in order. */
class Numbers {
  constructor() {
    this.last = 0;
    this.holes = []; // ranges below `last` that have not come
  }

  /** Returns how many numbers of a range are new. */
  take(first, last) {
    if (first > this.last) {
      if (first > this.last + 1) this.holes.push([this.last + 1, first - 1]);
      this.last = last;
      return last - first + 1;
    }
    let fresh = Math.max(0, last - this.last);
    this.last = Math.max(this.last, last);
    this.holes = this.holes.flatMap(([from, to]) => {
      if (last < from || first > to) return [[from, to]];
      fresh += Math.min(to, last) - Math.max(from, first) + 1;
      return [
        [from, first - 1],
        [last + 1, to],
      ].filter(([a, b]) => a <= b);
    });
    return fresh;
  }

  problems() {
    return this.holes.map(([from, to]) => `records ${from} to ${to} are missing`);
  }
}

/** What one tenant's stream says of itself, message by message. */
class Account {
  constructor(tenant, operatorKeys) {
    this.tenant = tenant;
    this.operatorKeys = operatorKeys;
    this.origins = new Map(); // node and load -> its Numbers
    this.chains = new Map(); // node and load -> its Chain
    this.stated = new Map(); // node -> its key, as an operator in whom we believe states it
    this.keys = new Map(); // node -> the keys that its messages are signed with
    this.result = { messages: 0, delivered: 0, declared: 0, relations: {} };
    this.paths = new Set();
    this.problems = [];
  }

  take(message) {
    const [, , node, klass] = message.subject.split('.');
    const origin = `${node}-${message.headers?.get('Hw-Load')}`;
    if (!this.check(message, node, origin)) return;
    this.result.messages += 1;
    const bytes =
      message.headers.get('Hw-Encoding') === 'zstd' ? decompress(message.data) : message.data;
    const document = JSON.parse(new TextDecoder().decode(bytes));
    if (klass === 'checkpoint') this.checkpoint(document, node, origin, message);
    if (klass === 'graph' || klass === 'gap') this.number(message, klass, origin);
    if (klass === 'graph') this.graph(document);
  }

  check(message, node, origin) {
    const [key, signature] = (message.headers?.get('Hw-Sig') ?? '').split(' ');
    const link = /^(\d+) (\d+) ([0-9a-f]{64})$/.exec(message.headers?.get('Hw-Chain') ?? '');
    if (!signature || !link) {
      this.problems.push(`message ${message.seq}: it is not signed`);
      return false;
    }
    const text = signedText(this.tenant, message);
    const bytes = [key, signature].map((each) => Buffer.from(each, 'base64url'));
    if (bytes[0].length !== 32 || !isSigned(bytes[0], bytes[1], text)) {
      this.problems.push(`message ${message.seq}: its node did not sign this`);
      return false;
    }
    if (!this.keys.has(node)) this.keys.set(node, new Set());
    this.keys.get(node).add(key);
    if (!this.chains.has(origin)) this.chains.set(origin, new Chain());
    const voids = (message.headers.get('Hw-Void') || '').split(', ').filter(Boolean);
    return this.chains.get(origin).take(Number(link[1]), Number(link[2]), sha256(text), link[3], voids);
  }

  checkpoint(document, node, origin, message) {
    const [key] = message.headers.get('Hw-Sig').split(' ');
    for (const [name, said] of Object.entries(document.entity)) {
      if (!name.startsWith(`hw:checkpoint.${origin}.`))
        this.problems.push(`message ${message.seq}: a checkpoint of another chain`);
      const statement = said['hw:statement'];
      if (statement && checkStatement(statement, node, key, this.operatorKeys))
        this.stated.set(node, key);
    }
  }

  number(message, klass, origin) {
    const [first, last] = message.headers.get('Hw-Seq').split('-').map(Number);
    if (!this.origins.has(origin)) this.origins.set(origin, new Numbers());
    const fresh = this.origins.get(origin).take(first, last);
    this.result[klass === 'graph' ? 'delivered' : 'declared'] += fresh;
  }

  graph(document) {
    for (const section of SECTIONS)
      for (const edge of Object.values(document[section] ?? {})) {
        const type = edge['prov:type'].$.replace('cf:', '');
        this.result.relations[type] = (this.result.relations[type] ?? 0) + 1;
      }
    for (const vertex of Object.values(document.entity ?? {}))
      if (typeof vertex['cf:pathname'] === 'string') this.paths.add(vertex['cf:pathname']);
  }

  close() {
    for (const accounts of [this.origins, this.chains])
      for (const [origin, one] of accounts)
        this.problems.push(...one.problems().map((problem) => `${origin}: ${problem}`));
    if (this.operatorKeys.length)
      for (const [node, keys] of this.keys)
        for (const key of keys)
          if (this.stated.get(node) !== key)
            this.problems.push(`${node}: no operator states that ${key} is its key`);
    return {
      ...this.result,
      paths: [...this.paths],
      nodes: [...this.keys.keys()],
      problems: this.problems,
    };
  }
}

function words() {
  try {
    const { values } = parseArgs({
      options: {
        server: { type: 'string' },
        credentials: { type: 'string' },
        tenant: { type: 'string' },
        'operator-key': { type: 'string', multiple: true, default: [] },
        durable: { type: 'string', default: 'nodejs-auditor' },
        consumer: { type: 'string' },
        'inbox-prefix': { type: 'string', default: '_INBOX' },
        ca: { type: 'string' },
        once: { type: 'boolean', default: false },
      },
    });
    for (const name of ['server', 'credentials', 'tenant'])
      if (!values[name]) throw new Error(`--${name} is missing`);
    return values;
  } catch (error) {
    console.error(`auditor: ${error.message}`);
    process.exit(2);
  }
}

const chosen = words();
const connection = await connect({
  servers: chosen.server.split(','),
  authenticator: credsAuthenticator(readFileSync(chosen.credentials)),
  inboxPrefix: chosen['inbox-prefix'],
  tls: chosen.ca ? { caFile: chosen.ca } : undefined,
});
const account = new Account(chosen.tenant, chosen['operator-key']);
const manager = await jetstreamManager(connection, { checkAPI: false });
if (!chosen.consumer)
  await manager.consumers.add(STREAM, {
    durable_name: chosen.durable,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    max_ack_pending: 512,
  });
const consumer = await jetstream(connection, { checkAPI: false }).consumers.get(
  STREAM,
  chosen.consumer ?? chosen.durable,
);
if (!chosen.once || (await consumer.info()).num_pending) {
  const messages = await consumer.consume({ max_messages: 500 });
  process.once('SIGTERM', () => messages.stop());
  for await (const message of messages) {
    account.take(message);
    message.ack();
    if (chosen.once && message.info.pending === 0) break;
  }
}
const said = account.close();
console.log(JSON.stringify(said, null, 1));
await connection.drain();
process.exitCode = said.problems.length ? 1 : 0;
