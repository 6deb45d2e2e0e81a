# Three partitions of release 4 on each server, the most that a pair may have: a survivor runs six.

pair "cpqlab" {}

server "rocky" {}
server "apollo" {}

agent {
  plugin_dir = "/opt/ors/bin"
}

interconnect {
  interval = "100ms"
  timeout  = "1s"
  key_file = "/etc/ors/interconnect.key"

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

network_check {
  targets = ["172.25.36.10"]
}

plugin "domino" {
  version = ">= 0.1"
}

plugin "ipset" {
  version = ">= 0.1"
}

group "rocky" {
  primary = "rocky"

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
      address  = "172.25.36.45/24"
      replaces = "172.25.36.48"
    }
  }

  application "domino" "notes" {
    after = ["address"]

    probe {
      interval = "1s"
      timeout  = "1s"
    }

    config {
      program = "${drive["E:"].path}/notes/server"
      release = "4.5"

      partition "CN=Rocky/OU=Servers/O=Cpqlab" {
        data    = "${drive["E:"].path}/notes/data1"
        address = "172.25.36.45"
        user    = "notes1"
        number  = 1
        mapper  = true
      }

      partition "CN=Rocky_2/OU=Servers/O=Cpqlab" {
        data    = "${drive["E:"].path}/notes/data2"
        address = "172.25.36.45:13520"
        user    = "notes2"
        number  = 2
      }

      partition "CN=Rocky_3/OU=Servers/O=Cpqlab" {
        data    = "${drive["E:"].path}/notes/data3"
        address = "172.25.36.45:13521"
        user    = "notes3"
        number  = 3
      }
    }
  }
}

group "apollo" {
  primary = "apollo"

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

  application "domino" "notes" {
    after = ["address"]

    probe {
      interval = "1s"
      timeout  = "1s"
    }

    config {
      program = "${drive["F:"].path}/notes/server"
      release = "4.5"

      partition "CN=Apollo/OU=Servers/O=Cpqlab" {
        data    = "${drive["F:"].path}/notes/data1"
        address = "172.25.36.46"
        user    = "notes4"
        number  = 4
        mapper  = true
      }

      partition "CN=Apollo_2/OU=Servers/O=Cpqlab" {
        data    = "${drive["F:"].path}/notes/data2"
        address = "172.25.36.46:13520"
        user    = "notes5"
        number  = 5
      }

      partition "CN=Apollo_3/OU=Servers/O=Cpqlab" {
        data    = "${drive["F:"].path}/notes/data3"
        address = "172.25.36.46:13521"
        user    = "notes6"
        number  = 6
      }
    }
  }
}
