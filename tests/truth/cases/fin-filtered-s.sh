#: title = "the same from the server: its connections stand unused, and whether the client still has them is not known there"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "nft"]
#: seconds = 14
#: look_from = "s"
#: [[expect]]
#: rule = ["connection-pool-growth"]
#: comm = "redis-server"
#: never_said = ["are alive"]
#: said = ["whether the peers still have them"]
#: severity_at_most = "info"
same fin-filtered-c
