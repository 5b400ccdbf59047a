#: title = "sshd with two idle sessions, a local forward and a remote forward, each with an idle connection through it; seen from the client"
#: kind = "K4"
#: needs = ["sshd", "ssh", "ssh-keygen", "nc"]
#: seconds = 12
#: look_from = "c"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f "$W/host"; ssh-keygen -q -t ed25519 -N '' -f "$W/id"; cp "$W/id.pub" "$W/keys"
bg $S $(command -v sshd || echo /usr/sbin/sshd) -D -e -f /dev/null -h "$W/host" -o ListenAddress=10.77.0.2 -o AuthorizedKeysFile="$W/keys" -o StrictModes=no -o PermitRootLogin=yes -o PidFile=none
listens $S 22
o="-F none -i $W/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
bg $S nc -lk 127.0.0.1 5000
bg $C nc -lk 127.0.0.1 5001
bg $C ssh $o root@10.77.0.2 sleep 60
bg $C ssh $o root@10.77.0.2 sleep 61
bg $C ssh $o -N -L 127.0.0.1:7000:127.0.0.1:5000 -R 127.0.0.1:7001:127.0.0.1:5001 root@10.77.0.2
listens $C 7000; listens $S 7001
bg $C bash -c 'sleep 60 | nc 127.0.0.1 7000'
bg $S bash -c 'sleep 60 | nc 127.0.0.1 7001'
sleep 3
ready
