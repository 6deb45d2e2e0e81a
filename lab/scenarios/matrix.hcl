# The configuration of the matrix: two groups, each an address and the lab's small store on a drive of its own.

pair "cpqlab" {}

server "rocky" {}
server "apollo" {}

agent {
  plugin_dir = "/opt/ors/bin"
}

interconnect {
  interval        = "100ms"
  timeout         = "1s"
  startup_timeout = "4s"
  key_file        = "/etc/ors/interconnect.key"

  serial "cable" {
    baud   = 115200
    device = { rocky = "/dev/ors/cable", apollo = "/dev/ors/cable" }
  }

  udp "lan" {
    address = { rocky = "10.36.0.1:7711", apollo = "10.36.0.2:7711" }
  }
}

arbitration {
  survivor = "apollo"
}

plugin "generic" {
  version = ">= 0.1"
}

plugin "ipset" {
  version = ">= 0.1"
}

group "rocky" {
  primary = "rocky"

  # A case is over in seconds, and the next one is played on the same pair.
  flap_limit  = 8
  flap_window = "10s"

  storage "storage2" {
    switch "rsw" {
      endpoint = "unix:/run/ors-enclosure/rsw.sock"
    }

    drive "E:" {
      volume     = "/dev/ors/storage2"
      filesystem = "ext4"
      options    = ["noatime"]
    }
  }

  application "ipset" "address" {
    config {
      address = "172.25.36.45/24"
    }
  }

  application "generic" "store" {
    after = ["address"]

    config {
      command = [
        "/opt/ors/bin/orslab", "store", "--data", "${drive["E:"].path}/numbers", "--listen", "172.25.36.45:7000",
      ]

      check "tcp" {
        address  = "172.25.36.45:7000"
        interval = "20ms"
      }
    }
  }
}

group "apollo" {
  primary = "apollo"

  flap_limit  = 8
  flap_window = "10s"

  storage "storage1" {
    switch "rsw" {
      endpoint = "unix:/run/ors-enclosure/rsw.sock"
    }

    drive "F:" {
      volume     = "/dev/ors/storage1"
      filesystem = "ext4"
      options    = ["noatime"]
    }
  }

  application "ipset" "address" {
    config {
      address = "172.25.36.46/24"
    }
  }

  application "generic" "store" {
    after = ["address"]

    config {
      command = [
        "/opt/ors/bin/orslab", "store", "--data", "${drive["F:"].path}/numbers", "--listen", "172.25.36.46:7000",
      ]

      check "tcp" {
        address  = "172.25.36.46:7000"
        interval = "20ms"
      }
    }
  }
}
