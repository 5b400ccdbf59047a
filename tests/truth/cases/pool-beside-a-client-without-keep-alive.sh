#: title = "a pool of 40 beside a client without keep-alive: the second one takes the ports"
#: kind = "K2"
#: needs = ["node", "python3", "nginx"]
#: seconds = 18
#: also = ["time-wait-client-churn"]
#: [[expect]]
#: rule = ["ephemeral-port-exhaustion"]
#: comm = "python3"
#: destination = "10.77.0.2:80"
#: severity_at_least = "warning"
#: severity_at_most = "high"
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="30000 30599"
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

bg $C node -e '
process.title="node"
const http=require("http"), agent=new http.Agent({keepAlive:true,maxSockets:40})
setInterval(()=>{ for (let i=0;i<40;i++) http.get({host:"10.77.0.2",agent},r=>r.resume()).on("error",()=>{}) },500)'
bg $C python3 -c '
import http.client,threading,time
def work():
    while 1:
        try:
            c=http.client.HTTPConnection("10.77.0.2",80); c.request("GET","/"); c.getresponse().read(); time.sleep(.2); c.close()
        except OSError: time.sleep(.5)
for i in range(5): threading.Thread(target=work).start()'
sleep 9
ready
