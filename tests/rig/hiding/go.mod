module tagpin.dev/rig/hiding

go 1.26.0
