#: title = "one of two upstreams of nginx is gone and proxy_connect_timeout is 2 s: each second request is late; the one who looks has no privileges"
#: kind = "K3"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 9
#: nobody = true
#: [[expect]]
#: rule = ["connect-failures", "syn-sent-pileup"]
#: destination = "10.77.0.9:8080"
#: never_cause = ["refused", "impatient"]
#: severity_at_least = "warning"
pair
ip -n "$S" addr add 10.77.0.9/24 dev "v${N}s"
filter $S "ip daddr 10.77.0.9"
for n in c s; do
    [ $n = s ] && h='server { listen 10.77.0.2:8080; location / { return 200 "ok"; } }' ||
        h='upstream u { server 10.77.0.2:8080 max_fails=0; server 10.77.0.9:8080 max_fails=0; }
           server { listen 127.0.0.1:8080; location / { proxy_pass http://u; proxy_connect_timeout 2s; } }'
    cat >"$W/$n.conf" <<A
daemon off; worker_processes 1; error_log $W/e$n; pid $W/pid$n; events { worker_connections 512; }
http { access_log off; $h }
A
done
bg $S nginx -c "$W/s.conf"; bg $C nginx -c "$W/c.conf"
listens $S 8080; listens $C 8080
bg $C bash -c 'while :; do curl -s -m 9 -o /dev/null http://127.0.0.1:8080/ & sleep .2; done'
sleep 4
ready
