# The configuration of the matrix with PostgreSQL: as matrix.hcl, with a database in Rocky's group, and without a startup
# time-out: an agent that has never heard its partner waits for it for ever.

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

  application "generic" "postgres" {
    after = ["address"]

    config {
      command = [
        "/opt/postgresql/bin/postgres",
        "-D", "${drive["E:"].path}/postgresql/data",
        "-h", "172.25.36.45",
        "-k", "${drive["E:"].path}/postgresql/run",
      ]
      user              = "postgres"
      working_directory = "${drive["E:"].path}/postgresql"

      before_start {
        command = ["rm", "-f", "${drive["E:"].path}/postgresql/data/postmaster.pid"]
      }

      check "command" {
        command = ["/opt/postgresql/bin/pg_isready", "-q", "-h", "172.25.36.45"]
      }

      stop {
        signal     = "SIGINT"
        kill_after = "30s"
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
