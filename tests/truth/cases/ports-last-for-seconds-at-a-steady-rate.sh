#: title = "40 connections a second without reuse: half of 1,000 ports are gone, the rest lasts 12 s"
#: kind = "K1"
#: needs = ["node"]
#: seconds = 20
#: also = ["time-wait-client-churn"]
#: [[expect]]
#: rule = ["ephemeral-port-exhaustion"]
#: comm = "node"
#: destination = "10.77.0.2:80"
#: severity_at_least = "warning"
#: severity_at_most = "high"
#: numbers = { exhausted_in_ms = [7000, 14500], new_per_second = [32, 48] }
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="30000 30999"
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

bg $C node -e '
process.title="node"
const net=require("net"); const begin=Date.now(); let n=0
setInterval(()=>{ while (n < (Date.now()-begin)/25) { n++
  const s=net.connect(80,"10.77.0.2",()=>setTimeout(()=>s.end(),150)); s.on("error",()=>{}) } },5)'
sleep 11
ready
