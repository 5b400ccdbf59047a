#: title = "a firewall admits two new connections a second (`ufw limit`, synflood protection) and curl makes five: some wait, others are served"
#: kind = "K2"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 16
#: also = ["connect-failures"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: destination = "10.77.0.2:80"
#: cause = "partly-filtered"
#: never_cause = ["peer-accept-queue-full", "port-filtered", "host-down"]
pair
printf 'daemon off;\npid %s/p;\nerror_log /dev/null;\nevents {}\nhttp { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }\n' "$W" >"$W/c"
bg $S nginx -c "$W/c"
listens $S 80
filter $S "tcp dport 80 ct state new limit rate over 2/second burst 5 packets"
bg $C bash -c 'while :; do curl -s -o /dev/null -m 40 http://10.77.0.2/ & sleep .2; done'
sleep 9
ready
