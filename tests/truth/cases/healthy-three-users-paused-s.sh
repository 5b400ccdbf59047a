#: title = "three of ten users of nginx paused their downloads a minute ago"
#: kind = "K4"
#: needs = ["nginx", "curl"]
#: seconds = 80
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; truncate -s 4G $W/big; chmod 755 $W
printf 'user root; daemon off; pid %s/p; error_log /dev/null; events {} http { access_log off; server { listen 80; root %s; } }' $W $W >$W/n
bg $S nginx -c $W/n; listens $S 80
for i in 1 2 3 4 5 6 7; do bg $C curl -s --limit-rate 300k -o /dev/null http://10.77.0.2/big; done
for i in 1 2 3; do bg $C curl -s -o /dev/null --limit-rate 50M http://10.77.0.2/big; done
sleep 1; for p in $(ip netns pids $C); do grep -qa 50M /proc/$p/cmdline && kill -STOP $p; done
sleep 64
ready
