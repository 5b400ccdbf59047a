#: title = "a site behind a geostationary satellite: 600 ms round trip, downloads, short connects and a shell, nothing lost"
#: kind = "K2"
#: needs = ["nginx", "curl", "socat", "python3"]
#: seconds = 18
#: doctor = [[], ["--once"]]
#: healthy = true
wire 300 0 0
head -c 50000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; location /f { limit_rate 100k; } location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
bg $S socat TCP-LISTEN:22,bind=10.77.0.2,fork,reuseaddr EXEC:cat
listens $S 80; listens $S 22
for i in 1 2 3 4; do bg $C curl -s -o /dev/null http://10.77.0.2/f; done
for i in 1 2 3 4 5 6; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/; sleep 1; done'; done
bg $C bash -c '(while :; do echo x; sleep 0.2; done) | socat - TCP:10.77.0.2:22'
sleep 12
ready
