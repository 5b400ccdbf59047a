#: title = "vsftpd: passive downloads at a limited rate, their control connections silent meanwhile"
#: kind = "K4"
#: needs = ["vsftpd", "curl"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
mkdir -p "$W/empty" "$W/pub"; head -c 5000000 /dev/zero >"$W/pub/f"; chmod 755 "$W" "$W/pub" "$W/empty"; chmod 644 "$W/pub/f"
cat >"$W/v.conf" <<A
listen=YES
listen_address=10.77.0.2
background=NO
anonymous_enable=YES
local_enable=NO
anon_root=$W/pub
secure_chroot_dir=$W/empty
anon_max_rate=100000
pasv_min_port=40000
pasv_max_port=40100
seccomp_sandbox=NO
isolate_network=NO
xferlog_enable=NO
A
bg $S vsftpd "$W/v.conf"
listens $S 21
for i in 1 2 3; do bg $C curl -sS -o /dev/null ftp://10.77.0.2/f; done
# Sessions that wait at their prompt.
for i in 1 2; do bg $C bash -c 'exec 3<>/dev/tcp/10.77.0.2/21; printf "USER ftp\r\nPASS x\r\n" >&3; exec cat <&3'; done
sleep 3
ready
