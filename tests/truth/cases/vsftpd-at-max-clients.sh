#: title = "four sessions at the prompt hold all that vsftpd's max_clients permits: others get 421 and the end"
#: kind = "K7"
#: needs = ["vsftpd", "curl"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "vsftpd"
#: listener = "10.77.0.2:21"
#: cause = "own-limit"
#: severity_at_least = "warning"
pair
mkdir -p "$W/empty" "$W/pub"; chmod 755 "$W" "$W/pub" "$W/empty"
printf 'listen=YES\nlisten_address=10.77.0.2\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root=%s\nsecure_chroot_dir=%s
seccomp_sandbox=NO\nisolate_network=NO\nxferlog_enable=NO\nmax_clients=4\n' "$W/pub" "$W/empty" >"$W/v.conf"
bg $S vsftpd "$W/v.conf"
listens $S 21
for i in 1 2 3 4; do bg $C bash -c 'exec 3<>/dev/tcp/10.77.0.2/21; printf "USER ftp\r\nPASS x\r\n" >&3; exec cat <&3'; done
sleep 1
bg $C bash -c 'while :; do curl -s ftp://10.77.0.2/; sleep 0.2; done'
sleep 3
ready
