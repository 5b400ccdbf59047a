#: title = "a firewall limits new connections to 100 a second and 200 at a time; ab keeps ten and curl makes five a second"
#: kind = "K2"
#: needs = ["nginx", "curl", "ab", "nft"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: healthy = true
pair
printf 'daemon off;\npid %s/p;\nerror_log /dev/null;\nevents {}\nhttp { access_log off; keepalive_requests 100000; server { listen 10.77.0.2:80; return 200 ok; } }\n' "$W" >"$W/c"
bg $S nginx -c "$W/c"
listens $S 80
filter $S "tcp dport 80 ct state new limit rate over 100/second burst 50 packets"
ip netns exec $S nft "add rule inet f i tcp dport 80 ct state new ct count over 200 drop"
bg $C bash -c 'while :; do ab -q -k -t 60 -n 10000000 -c 10 http://10.77.0.2/; done'
bg $C bash -c 'while :; do curl -s -o /dev/null -m 9 http://10.77.0.2/; sleep .2; done'
sleep 7
ready
