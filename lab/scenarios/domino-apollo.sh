# Fills drive F: the stand-in for a Domino server with the two partitions of Table 8, of which the first maps the port of the
# second. data3 is the folder that the paper has for Rocky's partition, with the files of Table 9; here the plugin does their work.
mkdir -p "$VOLUME/notes/data" "$VOLUME/notes/data2" "$VOLUME/notes/data3"
cp /opt/ors/bin/notes-server "$VOLUME/notes/server"
ini() {
  printf '%s\r\n' '[Notes]' "Directory=/ors/F/notes/$1" 'KeyFilename=server.id' 'ServerSetup=450' \
    "ServerName=CN=$2/OU=Servers/O=Cpqlab" 'Ports=TCPIP' 'TCPIP=TCP, 0, 15, 0' 'TRANSLOG_Status=1' 'TRANSLOG_Path=logdir' \
    'LAB_ConsistencyCheck=1000'
}
cd "$VOLUME/notes/data"
{
  ini data Apollo
  printf '%s\r\n' 'TCPIP_TcpIpAddress=0,172.25.36.46:1352' \
    'TCPIP_PortMapping00=CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520'
} >notes.ini
echo 'ID of Apollo/Servers/Cpqlab' >server.id
chown -R 2001:2001 .
cd ../data2
{
  ini data2 Apollo_2
  printf '%s\r\n' 'TCPIP_TcpIpAddress=0,172.25.36.46:13520'
} >notes.ini
echo 'ID of Apollo_2/Servers/Cpqlab' >server.id
chown -R 2002:2002 .
cd ../data3
printf '%s\r\n' 'e:' 'cd\' 'cd notes\data' 'Start e:\notes\nserver.exe' >nserver.bat
printf '%s\r\n' 'e:' 'cd notes\data' 'SET NotesServerPartition=3' 'Start e:\notes\notes.exe' >nclient.bat
