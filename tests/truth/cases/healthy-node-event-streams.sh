#: title = "forty server-sent event streams of node, most of them silent for minutes"
#: kind = "K4"
#: needs = ["node", "curl"]
#: seconds = 14
#: look_from = "s"
#: healthy = true
pair
cat >"$W/s.js" <<A
const all = new Set();
require('http').createServer((q, r) => {
  r.writeHead(200, { 'Content-Type': 'text/event-stream' }); r.write(': hello\n\n');
  const c = { r, busy: q.url === '/busy' }; all.add(c); q.on('close', () => all.delete(c));
}).listen(8080, '10.77.0.2');
setInterval(() => { for (const c of all) if (c.busy) c.r.write('data: ' + Date.now() + '\n\n'); }, 700);
setInterval(() => { for (const c of all) c.r.write(': heartbeat\n\n'); }, 30000);
A
bg $S node "$W/s.js"
listens $S 8080
for i in $(seq 35); do bg $C curl -sN -m 600 -o /dev/null http://10.77.0.2:8080/quiet; done
for i in $(seq 5); do bg $C curl -sN -m 600 -o /dev/null http://10.77.0.2:8080/busy; done
# Pages that are opened and left again.
bg $C bash -c 'for i in $(seq 200); do curl -sN -m 2 -o /dev/null http://10.77.0.2:8080/busy; sleep 0.5; done'
sleep 9
ready
