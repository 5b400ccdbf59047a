#: title = "thirty spare connections of browsers that never sent a byte, beside normal keep-alive traffic"
#: kind = "K4"
#: needs = ["nginx", "python3"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 2; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C python3 -c '
import socket,time,http.client
k=[socket.create_connection(("10.77.0.2",80)) for i in range(30)]
h=http.client.HTTPConnection("10.77.0.2",80)
while 1: h.request("GET","/"); h.getresponse().read(); time.sleep(.05)'
sleep 3.5
ready
