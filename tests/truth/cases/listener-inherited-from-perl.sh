#: title = "a perl daemon with $^F = 20 started a pipeline in the background and ended: cat holds its listener"
#: kind = "K2"
#: needs = ["perl"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["inherited-listener", "accept-queue-stalled"]
#: listener = "127.0.0.1:7000"
#: said = ["CLOEXEC"]
one
within $C perl -e 'use IO::Socket::INET; $^F=20;
my $l=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>7000,Listen=>8,ReuseAddr=>1) or die;
system("sleep 60 | cat >/dev/null &");'
sleep 3
ready
