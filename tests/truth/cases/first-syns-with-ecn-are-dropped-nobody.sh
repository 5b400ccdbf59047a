#: title = "the same, and the one who looks has no privileges"
#: kind = "K7"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 8
#: look_from = "c"
#: nobody = true
#: [[expect]]
#: rule = ["late-connects"]
#: destination = "10.77.2.2:80"
#: cause = "ecn-filtered"
same first-syns-with-ecn-are-dropped
