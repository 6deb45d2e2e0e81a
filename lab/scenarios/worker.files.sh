# Fills a drive with what the program of the Python plugin serves.
mkdir -p "$VOLUME/files"
echo 'A program that a plugin in Python protects.' >"$VOLUME/files/index.html"
chmod -R a+rX "$VOLUME/files"
