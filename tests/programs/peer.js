// tests/programs/peer.js - TCP peers that behave well or badly, as asked.
//
//   server [OPTIONS]         prints "listening PORT"; serves until it is killed
//   client PORT [OPTIONS]    one connection; ends with it
//   many PORT N [OPTIONS]    N connections at once that stay; prints "up" when
//                            each has got its first byte; ends on SIGTERM
//
// Options: --send FILE          send it, then end this direction (FIN)
//          --endless            send for ever
//          --echo               send back what comes
//          --greet TEXT         send a line first
//          --reset-after BYTES  reset the connection once so many were sent (or
//                               received, when nothing is sent)
//          --read-after MS      read nothing for so long
//          --never-read         ... for ever (but for a first byte)
//          --save FILE          keep what came (client)
//          --answer             when the peer has ended its direction, send the
//                               count and hash of what came, then end
// Each connection that is over prints one JSON line: {"received", "sha256",
// "sent", "how"}; how: "end" (FIN both ways), "reset", or an errno.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const net = require('net');

const block = crypto.randomBytes(65536);

function parse(argv) {
  const o = {rest: []};
  const flags = new Set(['endless', 'echo', 'never-read', 'answer', 'quiet']);
  for (let i = 0; i < argv.length; i++) {
    if (!argv[i].startsWith('--')) {
      o.rest.push(argv[i]);
      continue;
    }
    const name = argv[i].slice(2);
    o[name] = flags.has(name) ? true : argv[++i];
  }
  return o;
}

function serve(socket, o, done) {
  const hash = crypto.createHash('sha256');
  const limit = o['reset-after'] === undefined ? Infinity : +o['reset-after'];
  const sending = o.send !== undefined || o.endless;
  const save = o.save === undefined ? null : fs.openSync(o.save, 'w');
  let received = 0;
  let sent = 0;
  let how = null;

  function reset() {
    how = 'reset by this side';
    socket.resetAndDestroy();
  }
  socket.setNoDelay(true);
  if (o.greet !== undefined)
    socket.write(o.greet + '\n');

  socket.on('data', (data) => {
    hash.update(data);
    received += data.length;
    if (save !== null)
      fs.writeSync(save, data);
    if (o.echo && !socket.write(data)) {
      socket.pause();
      socket.once('drain', () => socket.resume());
    }
    if (!sending && received >= limit)
      reset();
  });
  socket.on('end', () => {
    if (o.answer)
      socket.end(`${received} ${hash.copy().digest('hex')}\n`);
    else if (!sending)
      socket.end();
  });
  socket.on('error', (error) => {
    how = error.code === 'ECONNRESET' || error.code === 'EPIPE' ? 'reset'
                                                                : error.code;
  });
  socket.on('close', () => {
    if (save !== null)
      fs.closeSync(save);
    if (how === null)
      how = socket.readableEnded ? 'end' : 'reset';
    done({received, sha256: hash.digest('hex'), sent, how});
  });

  if (o['never-read'])
    socket.pause();
  if (o['read-after'] !== undefined) {
    socket.pause();
    setTimeout(() => socket.resume(), +o['read-after']);
  }
  if (sending)
    send(socket, o, limit, (n) => { sent += n; }, reset);
}

function send(socket, o, limit, count, reset) {
  let left = limit;
  let more;
  const source = o.endless ? null : fs.createReadStream(o.send);
  const put = (data) => {
    const piece = data.subarray(0, Math.min(data.length, left));
    left -= piece.length;
    count(piece.length);
    return socket.write(piece, () => {
      if (left === 0)
        reset();
    });
  };
  if (source === null) {
    more = () => {
      while (!socket.destroyed && left > 0 && put(block))
        ;
    };
    socket.on('drain', more);
    more();
    return;
  }
  source.on('data', (data) => {
    if (socket.destroyed || left === 0) {
      source.destroy();
    } else if (!put(data)) {
      source.pause();
      socket.once('drain', () => source.resume());
    }
  });
  source.on('end', () => {
    if (!socket.destroyed && left > 0)
      socket.end();
  });
  socket.on('close', () => source.destroy());
}

const o = parse(process.argv.slice(3));
const print = (result) => {
  if (!o.quiet)
    console.log(JSON.stringify(result));
};

switch (process.argv[2]) {
case 'server': {
  const server = net.createServer({allowHalfOpen: true}, (socket) => {
    serve(socket, o, print);
  });
  server.listen({host: '127.0.0.1', port: +(o.port || 0), backlog: 1024}, () => {
    console.log('listening ' + server.address().port);
  });
  break;
}
case 'client': {
  const socket = net.connect(
      {host: '127.0.0.1', port: +o.rest[0], allowHalfOpen: true},
      () => serve(socket, o, print));
  socket.on('error', (error) => {
    if (socket.listenerCount('close') === 0)
      print({received: 0, sent: 0, how: error.code});
  });
  break;
}
case 'many': {
  const sockets = [];
  let up = 0;
  for (let i = 0; i < +o.rest[1]; i++) {
    const socket = net.connect({host: '127.0.0.1', port: +o.rest[0]});
    sockets.push(socket);
    socket.once('data', () => {
      if (o['never-read'])
        socket.pause();
      if (++up === +o.rest[1])
        console.log('up');
    });
    socket.on('error', (error) => {
      console.log('error ' + error.code);
      process.exit(1);
    });
    if (o.greet !== undefined)
      socket.on('connect', () => socket.write(o.greet + '\n'));
  }
  process.on('SIGTERM', () => {
    for (const socket of sockets)
      socket.resetAndDestroy();
    process.exit(0);
  });
  break;
}
default:
  console.error('peer.js: server, client or many');
  process.exit(2);
}
