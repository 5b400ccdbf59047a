#: title = "a SYN flood whose forged addresses are all of one /24 meets tcp_syncookies=0 and a short SYN backlog"
#: kind = "K2"
#: needs = ["nginx", "curl", "python3", "nft"]
#: seconds = 16
#: look_from = "s"
#: also = ["listener-drops-since-open", "sysctl-hazard"]
#: [[expect]]
#: rule = ["syn-queue-pressure", "syn-flood"]
#: listener = "10.77.0.2:80"
#: severity_at_least = "high"
#: cause = "flood"
#: never_said = ["queue is not full", "queues have room"]
internet
for x in tcp_syncookies=0 tcp_max_syn_backlog=32 tcp_no_metrics_save=1; do ip netns exec "$S" sysctl -qw "net.ipv4.$x"; done
printf 'daemon off;\npid %s/p;\nerror_log /dev/null;\nevents {}\nhttp { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }\n' "$W" >"$W/c"
bg $S nginx -c "$W/c"
listens $S 80
forge 10.77.0.2 80 10 0.1 255
sleep 1
for i in 1 2 3; do bg $C bash -c 'while :; do curl -s -o /dev/null --connect-timeout 8 http://10.77.0.2/; sleep 0.5; done'; done
sleep 9
ready
