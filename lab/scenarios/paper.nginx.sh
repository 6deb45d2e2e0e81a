# Fills drive F: an nginx with one page. All that it writes is on the drive or in a folder that every server has.
mkdir -p "$VOLUME/nginx/html" "$VOLUME/nginx/tmp"
echo 'Apollo serves.' >"$VOLUME/nginx/html/index.html"
cat >"$VOLUME/nginx/nginx.conf" <<'CONF'
worker_processes 1;
pid /run/nginx.pid;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path tmp/body;
  proxy_temp_path tmp/proxy;
  fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi;
  scgi_temp_path tmp/scgi;
  server {
    listen 172.25.36.46:80;
    root html;
  }
}
CONF
chmod -R a+rX "$VOLUME/nginx"
