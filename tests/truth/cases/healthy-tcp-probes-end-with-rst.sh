#: title = "two probes a second connect and reset, as balancers do"
#: kind = "K4"
#: needs = ["python3", "nginx"]
#: seconds = 16
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
printf 'daemon off; pid %s/p; error_log /dev/null; events {} http { access_log off; server { listen 80; } }' $W >$W/n; bg $S nginx -c $W/n; listens $S 80
bg $C python3 -c '
import socket,struct,time
while 1:
    x=socket.create_connection(("10.77.0.2",80)); x.setsockopt(1,13,struct.pack("ii",1,0)); x.close(); time.sleep(.45)'
sleep 9
ready
