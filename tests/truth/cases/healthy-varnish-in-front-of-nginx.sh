#: title = "varnish in front of nginx: keep-alive clients, cache hits, an idle backend connection"
#: kind = "K4"
#: needs = ["varnishd", "nginx", "ab", "cc"]
#: seconds = 25
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
chmod 755 "$W"; head -c 2000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:8080; root $W; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 8080
bg $S varnishd -F -j none -a 10.77.0.2:80 -b 127.0.0.1:8080 -n "$W/v" -s malloc,20m -T none -t 1
listens $S 80; sleep 1
bg $C ab -k -q -t 30 -n 10000000 -c 20 http://10.77.0.2/f
sleep 3
ready
