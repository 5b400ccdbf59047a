#: title = "twenty open WebSockets through nginx to node: a message each second, otherwise silent"
#: kind = "K4"
#: needs = ["nginx", "node"]
#: seconds = 10
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S node -e '
const crypto = require("crypto"), http = require("http");
const s = http.createServer((q, r) => r.end("ok"));
s.on("upgrade", (q, c) => {
  const a = crypto.createHash("sha1").update(q.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  c.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + a + "\r\n\r\n");
  const t = setInterval(() => c.write(Buffer.from([0x81, 2, 104, 105])), 1000);
  c.on("error", () => 0); c.on("close", () => clearInterval(t)); c.resume();
});
s.listen(3000, "127.0.0.1")'
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { proxy_pass http://127.0.0.1:3000; proxy_http_version 1.1;
proxy_set_header Upgrade \$http_upgrade; proxy_set_header Connection upgrade; proxy_read_timeout 1h; } } }
A
listens $S 3000
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C node -e '
const http = require("http");
for (let i = 0; i < 20; i++) {
  const q = http.request({ host: "10.77.0.2", headers: { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": 13,
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" } });
  q.on("upgrade", (r, s) => s.resume()); q.end();
}
setTimeout(() => 0, 60000)'
sleep 3
ready
