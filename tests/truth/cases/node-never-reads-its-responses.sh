#: title = "node looks at the status only and never consumes the bodies: all eight sockets of its agent are stuck"
#: kind = "K2"
#: needs = ["node", "nginx", "curl"]
#: seconds = 18
#: look_from = "c"
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "node"
#: destination = "10.77.0.2:80"
pair
chmod 755 "$W"; mkdir -p "$W/t" "$W/www"; head -c 20000000 /dev/zero | tr '\0' 'x' >"$W/www/big.json"; echo hi >"$W/www/small"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 256; }
http { access_log off; send_timeout 900s; keepalive_timeout 900s; client_body_temp_path $W/t; proxy_temp_path $W/t; fastcgi_temp_path $W/t;
uwsgi_temp_path $W/t; scgi_temp_path $W/t; server { listen 10.77.0.2:80; root $W/www; } }
A
bg $S nginx -c "$W/n.conf" -p "$W"
listens $S 80
cat >"$W/app.js" <<A
const http = require('http');
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
setInterval(() => { const r = http.get({ host: '10.77.0.2', path: '/big.json', agent }, res => { if (res.statusCode !== 200) console.log('bad'); }); r.on('error', () => {}); }, 500);
http.createServer((q, s) => s.end('alive\n')).listen(9090, '127.0.0.1');
A
bg $C node "$W/app.js"
listens $C 9090
# Node itself is well: it answers its health checks; and nginx answers others.
bg $C bash -c 'for i in $(seq 600); do curl -s -m 2 -o /dev/null http://127.0.0.1:9090/; curl -s -m 2 -o /dev/null http://10.77.0.2/small; sleep 0.7; done'
sleep 13
ready
