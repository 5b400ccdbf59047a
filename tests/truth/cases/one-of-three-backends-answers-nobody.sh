#: title = "a client spreads requests over three nginx; one is stopped: its kernel takes requests, the client gives up after 2 s"
#: kind = "K7"
#: needs = ["nginx", "python3"]
#: seconds = 25
#: times = 2
#: [[expect]]
#: rule = ["no-answer"]
#: comm = "python3"
#: destination = "10.77.0.4:80"
#: cause = "program-stuck"
#: never_cause = ["long-request"]
#: severity_at_least = "warning"
pair
for i in 2 3 4; do
    [ $i = 2 ] || ip -n $S addr add 10.77.0.$i/24 dev "v${N}s"
    cat >"$W/n$i.conf" <<A
user root; daemon off; master_process off; error_log $W/e; pid $W/p$i; events { worker_connections 512; }
http { access_log off; keepalive_timeout 65; server { listen 10.77.0.$i:80; return 200 ok; } }
A
    bg $S nginx -c "$W/n$i.conf"
done
for a in 2 3 4; do for _ in $(seq 100); do ip netns exec $S ss -Htln src 10.77.0.$a | grep -q . && break; sleep 0.1; done; done
bg $C python3 -c '
import http.client,threading,time,random
def w(n):
    k={}
    while 1:
        a="10.77.0.%d"%random.choice((2,3,4))
        h=k.get(a) or http.client.HTTPConnection(a,80,timeout=2)
        try: h.request("GET","/"); h.getresponse().read(); k[a]=h
        except OSError: h.close(); k.pop(a,None)
        time.sleep(.05)
[threading.Thread(target=w,args=(i,),daemon=True).start() for i in range(6)]
time.sleep(120)'
sleep 2; kill -STOP $(cat "$W/p4"); sleep 12
ready
