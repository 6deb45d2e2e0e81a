# Fills drive E: the stand-in for a Domino server with the partition of Tables 5 and 8: program and data are on the drive.
# Its user is notes3; the numbers of the users are the same on both servers.
mkdir -p "$VOLUME/notes/data"
cp /opt/ors/bin/notes-server "$VOLUME/notes/server"
cd "$VOLUME/notes/data"
printf '%s\r\n' '[Notes]' 'Directory=/ors/E/notes/data' 'KeyFilename=server.id' 'ServerSetup=450' \
  'ServerName=CN=Rocky/OU=Servers/O=Cpqlab' 'Ports=TCPIP' 'TCPIP=TCP, 0, 15, 0' 'TCPIP_TcpIpAddress=0,172.25.36.45:1352' \
  'TRANSLOG_Status=1' 'TRANSLOG_Path=logdir' 'LAB_ConsistencyCheck=1500' >notes.ini
echo 'ID of Rocky/Servers/Cpqlab' >server.id
chown -R 2003:2003 .
