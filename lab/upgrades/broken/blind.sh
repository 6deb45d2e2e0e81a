#!/bin/sh
# A program that becomes an agent which hears its partner and whose plugin for addresses says nothing for 5 s.
[ "$1" != agent ] || {
  cd /opt/ors/bin && mv ors-plugin-ipset away && printf '#!/bin/sh\nexec sleep 8\n' >mute && chmod 0755 mute && mv mute ors-plugin-ipset
  (sleep 5; mv away ors-plugin-ipset) &
}
exec /opt/ors/lab/upgrade/b/orscore "$@"
