#: title = "nginx behind a tunnel: headers and small files arrive over keep-alive, large files never do"
#: kind = "K2"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 25
#: look_from = "s"
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["mtu-black-hole", "dead-peer-retransmit"]
#: cause = "mtu-black-hole"
#: said = ["tcp_mtu_probing"]
#: severity_at_most = "high"
pair; chmod 755 $W; echo hello >$W/small; truncate -s 5M $W/big
printf 'user root; daemon off; pid %s/p; error_log /dev/null; events {} http { access_log off; server { listen 80; root %s; } }' $W $W >$W/n
bg $S nginx -c $W/n; listens $S 80
filter $C "meta length > 1300"
for i in 1 2 3; do bg $C curl -s -o /dev/null -o /dev/null -o /dev/null http://10.77.0.2/small http://10.77.0.2/small http://10.77.0.2/big; done
sleep 13
ready
