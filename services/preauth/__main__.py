from services.preauth.main import main

main()
