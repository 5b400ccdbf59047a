#: title = "FTP login works, but a firewall drops the passive ports: each data connection stays in SYN_SENT"
#: kind = "K3"
#: needs = ["vsftpd", "curl", "nft"]
#: seconds = 16
#: [[expect]]
#: rule = ["syn-sent-pileup", "connect-failures"]
#: comm = "curl"
#: severity_at_least = "warning"
#: never_cause = ["refused"]
pair; filter $S "tcp dport 40000-40100"
mkdir -p "$W/empty" "$W/pub"; echo hello >"$W/pub/f"; chmod 755 "$W" "$W/pub" "$W/empty"; chmod 644 "$W/pub/f"
cat >"$W/v.conf" <<A
listen=YES
listen_address=10.77.0.2
background=NO
anonymous_enable=YES
local_enable=NO
anon_root=$W/pub
secure_chroot_dir=$W/empty
pasv_min_port=40000
pasv_max_port=40100
seccomp_sandbox=NO
isolate_network=NO
xferlog_enable=NO
A
bg $S vsftpd "$W/v.conf"
listens $S 21
for i in 1 2 3 4 5 6; do bg $C curl -sS -o /dev/null ftp://10.77.0.2/f; done
sleep 8
ready
