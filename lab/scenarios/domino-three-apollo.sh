# Fills drive F: three partitions of the stand-in on one address; the first maps the ports of the others.
mkdir -p "$VOLUME/notes"
cp /opt/ors/bin/notes-server "$VOLUME/notes/server"
mkdir "$VOLUME/notes/data1"
cd "$VOLUME/notes/data1"
printf '%s\n' '[Notes]' 'Directory=/ors/F/notes/data1' 'KeyFilename=server.id' 'ServerSetup=450' \
  'ServerName=CN=Apollo/OU=Servers/O=Cpqlab' 'Ports=TCPIP' 'TCPIP=TCP, 0, 15, 0' 'TRANSLOG_Status=1' \
  'TCPIP_TcpIpAddress=0,172.25.36.46:1352' 'LAB_ConsistencyCheck=4000' >notes.ini
printf '%s\n' 'TCPIP_PortMapping00=CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520' 'TCPIP_PortMapping01=CN=Apollo_3/OU=Servers/O=Cpqlab,172.25.36.46:13521' >>notes.ini
echo id >server.id
chown -R 2004:2004 .
mkdir "$VOLUME/notes/data2"
cd "$VOLUME/notes/data2"
printf '%s\n' '[Notes]' 'Directory=/ors/F/notes/data2' 'KeyFilename=server.id' 'ServerSetup=450' \
  'ServerName=CN=Apollo_2/OU=Servers/O=Cpqlab' 'Ports=TCPIP' 'TCPIP=TCP, 0, 15, 0' 'TRANSLOG_Status=1' \
  'TCPIP_TcpIpAddress=0,172.25.36.46:13520' 'LAB_ConsistencyCheck=4000' >notes.ini
echo id >server.id
chown -R 2005:2005 .
mkdir "$VOLUME/notes/data3"
cd "$VOLUME/notes/data3"
printf '%s\n' '[Notes]' 'Directory=/ors/F/notes/data3' 'KeyFilename=server.id' 'ServerSetup=450' \
  'ServerName=CN=Apollo_3/OU=Servers/O=Cpqlab' 'Ports=TCPIP' 'TCPIP=TCP, 0, 15, 0' 'TRANSLOG_Status=1' \
  'TCPIP_TcpIpAddress=0,172.25.36.46:13521' 'LAB_ConsistencyCheck=4000' >notes.ini
echo id >server.id
chown -R 2006:2006 .
