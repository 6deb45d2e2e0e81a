pair "cpqlab" {
  on_shutdown = "switchover"
  unsafe_demo = true
}

server "rocky" {}
server "apollo" {}

agent {
  state_dir = "/srv/${self}/state"
  realtime  = false
}

interconnect {
  interval        = "100ms"
  timeout         = "1s"
  startup_timeout = "90s"
  key_file        = "KEYFILE"

  serial "cable" {
    baud   = 57600
    device = { rocky = "/dev/ttyS0", apollo = "/dev/ttyS1" }
  }
  udp "lan" {
    address = { rocky = "10.36.0.1:7711", "apollo" = "10.36.0.2:7711" }
  }
}

arbitration {
  survivor = "apollo"
  delay    = "0s"
}

network_check {
  targets = ["172.25.36.1", "gateway.example:443"]
  timeout = "500ms"
}

plugin "generic" {
  version = ">= 1.2, < 2"
  sha256  = "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff"
  isolate = true
}

group "rocky" {
  primary       = "rocky"
  failback      = "manual"
  restart_limit = 5
  restart_reset = "1h"

  storage "storage2" {
    switch "rsw" {
      endpoint = "unix:/run/${self}/enclosure.sock"
      unit     = "two"
      timeout  = "3s"
    }
    drive "E:" {
      volume        = "LABEL=rocky_e"
      filesystem    = "xfs"
      options       = ["noatime", "nodev"]
      fsck          = "never"
      mount_timeout = "5s"
    }
    drive "G:" {
      volume = "/dev/disk/by-id/wwn-0x1"
    }
  }

  application "ipset" "address" {
    config {
      address = "172.25.36.45/24"
    }
  }
  application "generic" "web" {
    after         = ["address"]
    start_timeout = "2m"
    stop_timeout  = "30s"
    probe {
      interval = "1s"
      timeout  = "700ms"
      fall     = 2
    }
    config {
      command = ["${drive["E:"].path}/bin/web", d2.letter]
      port    = 80
      check "tcp" {
        address = "172.25.36.45:80"
      }
      check "http" {
        address  = "172.25.36.45:8080"
        interval = "1s"
      }
    }
  }
}

group "apollo" {
  primary = "apollo"
  storage "storage1" {
    switch "directory" { path = "/srv/unit1" }
    drive "F:" {}
  }
  failback       = "automatic"
  failback_delay = "2m"
  flap_limit     = 2
  flap_window    = "30m"
}
