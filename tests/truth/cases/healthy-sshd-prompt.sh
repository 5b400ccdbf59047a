#: title = "somebody is at the password prompt of a stock sshd"
#: kind = "K4"
#: needs = ["python3", "sshd", "ssh", "ssh-keygen"]
#: seconds = 8
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
mkdir -p /run/sshd; ssh-keygen -q -N "" -t ed25519 -f $W/hk; printf 'Port 22\nHostKey %s/hk\nStrictModes no\nUsePAM no\nPidFile %s/p\n' $W $W >$W/c
bg $S /usr/sbin/sshd -D -f $W/c; listens $S 22
bg $C python3 -c '
import pty,os,time
pid,fd=pty.fork()
if pid==0: os.execvp("ssh",["ssh","-o","StrictHostKeyChecking=no","-o","UserKnownHostsFile=/dev/null","root@10.77.0.2"])
time.sleep(60)'
sleep 2
ready
