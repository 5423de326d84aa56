complete -c nginx-rs -s s -d 'Send a signal to the running master' -r
complete -c nginx-rs -s p -d 'The prefix' -r -F
complete -c nginx-rs -s c -d 'The configuration file' -r -F
complete -c nginx-rs -s e -d 'The error log' -r -F
complete -c nginx-rs -s g -d 'Directives outside of the configuration file' -r
complete -c nginx-rs -s ? -d 'Show the help'
complete -c nginx-rs -s h -d 'Show the help'
complete -c nginx-rs -s v -d 'Show the version'
complete -c nginx-rs -s V -d 'Show the version and what is built in'
complete -c nginx-rs -s t -d 'Test the configuration'
complete -c nginx-rs -s T -d 'Test the configuration and show it'
complete -c nginx-rs -s q -d 'Say nothing but errors while testing'
